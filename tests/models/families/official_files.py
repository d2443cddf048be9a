"""Random weights under the names and in the shapes of the files that authors publish."""

import math

import torch


def random_state(shapes, seed=0):
    """Random tensors of given shapes, of a size that keeps a deep network's tokens in range."""
    generator = torch.Generator().manual_seed(seed)

    def values(name, shape):
        noise = torch.randn(shape, generator=generator)
        if ("norm" in name or ".ln_" in f".{name}") and name.endswith("weight"):
            return 1 + 0.2 * noise
        if name.endswith("weight") and len(shape) > 1:
            return noise / math.sqrt(math.prod(shape[1:]))
        return 0.3 * noise

    return {name: values(name, shape) for name, shape in shapes.items()}


def block_shapes(width, hidden, *, gated=False):
    """A block of DINOv2; without its LayerScale, of DINO, MoCo v3, MAE and timm."""
    mlp = (
        {"mlp.w12": (2 * hidden, width), "mlp.w3": (width, hidden)}
        if gated
        else {"mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}
    )
    layers = {"attn.qkv": (3 * width, width), "attn.proj": (width, width), **mlp}
    shapes = {f"{name}.weight": shape for name, shape in layers.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in layers.items()}
    return shapes | {f"{n}.{k}": (width,) for n in ("norm1", "norm2") for k in ("weight", "bias")}


def vit_shapes(width, depth, *, patch=16, side=14, hidden=None, gated=False, scaled=False):
    """A ViT of class token and learned positions; ``scaled`` adds LayerScale."""
    block = block_shapes(width, hidden or 4 * width, gated=gated)
    if scaled:
        block |= {"ls1.gamma": (width,), "ls2.gamma": (width,)}
    return {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + side * side, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
        **{f"blocks.{i}.{k}": shape for i in range(depth) for k, shape in block.items()},
    }


def dinov2_shapes(width, depth, *, registers=0, side=37, **options):
    shapes = vit_shapes(width, depth, patch=14, side=side, scaled=True, **options)
    shapes["mask_token"] = (1, width)
    if registers:
        shapes["register_tokens"] = (1, registers, width)
    return shapes


def images(side, count=2):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def dinov3_shapes(width, depth, *, heads, hidden=None, gated=False, biased=True, local_norm=False):
    """DINOv3's names; its periods and masks are no weights: see `dinov3_constants`."""
    block = block_shapes(width, hidden or 4 * width)
    if gated:
        for name in ("mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"):
            del block[name]
        block |= {"mlp.w1.weight": (hidden, width), "mlp.w1.bias": (hidden,)}
        block |= {"mlp.w2.weight": (hidden, width), "mlp.w2.bias": (hidden,)}
        block |= {"mlp.w3.weight": (width, hidden), "mlp.w3.bias": (width,)}
    if biased:
        block["attn.qkv.bias_mask"] = (3 * width,)
    else:
        del block["attn.qkv.bias"]
    block |= {"ls1.gamma": (width,), "ls2.gamma": (width,)}
    shapes = {
        "cls_token": (1, 1, width),
        "storage_tokens": (1, 4, width),
        "mask_token": (1, width),
        "rope_embed.periods": (width // heads // 4,),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    if local_norm:
        shapes |= {"local_cls_norm.weight": (width,), "local_cls_norm.bias": (width,)}
    return shapes | {f"blocks.{i}.{k}": v for i in range(depth) for k, v in block.items()}


def dinov3_state(width, depth, *, heads, seed=0, **options):
    """Random weights; masks without keys, and periods in bfloat16's precision, as published."""
    state = random_state(dinov3_shapes(width, depth, heads=heads, **options), seed)
    quarter = width // heads // 4
    periods = 100.0 ** (torch.arange(quarter) / quarter)
    state["rope_embed.periods"] = periods.bfloat16().float()
    for key in state:
        if key.endswith("bias_mask"):
            state[key] = torch.cat([torch.ones(width), torch.zeros(width), torch.ones(width)])
    return state


def as_zeros(shapes):
    """Tensors of zeros that take no memory."""
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def convnext_shapes(depths, widths):
    """facebookresearch/ConvNeXt's names, without its head."""
    shapes = {
        "downsample_layers.0.0.weight": (widths[0], 3, 4, 4),
        "downsample_layers.0.0.bias": (widths[0],),
        "downsample_layers.0.1.weight": (widths[0],),
        "downsample_layers.0.1.bias": (widths[0],),
        "norm.weight": (widths[-1],),
        "norm.bias": (widths[-1],),
    }
    for stage in range(1, 4):
        before, now = widths[stage - 1 : stage + 1]
        layer = f"downsample_layers.{stage}"
        shapes |= {f"{layer}.0.weight": (before,), f"{layer}.0.bias": (before,)}
        shapes |= {f"{layer}.1.weight": (now, before, 2, 2), f"{layer}.1.bias": (now,)}
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        block = {
            "gamma": (width,),
            "dwconv.weight": (width, 1, 7, 7),
            "dwconv.bias": (width,),
            "norm.weight": (width,),
            "norm.bias": (width,),
            "pwconv1.weight": (4 * width, width),
            "pwconv1.bias": (4 * width,),
            "pwconv2.weight": (width, 4 * width),
            "pwconv2.bias": (width,),
        }
        shapes |= {f"stages.{stage}.{i}.{k}": v for i in range(depth) for k, v in block.items()}
    return shapes


def dinov3_convnext_state(depths, widths, seed=0):
    """DINOv3's file, which holds the last norm twice."""
    state = random_state(convnext_shapes(depths, widths), seed)
    return state | {f"norms.3.{kind}": state[f"norm.{kind}"] for kind in ("weight", "bias")}


def clip_shapes(width, depth, *, patch=16, side=4, embedding=32):
    """open_clip's names of an image tower."""
    block = {
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width),
        "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width),
        "mlp.c_proj.bias": (width,),
    }
    block |= {f"ln_{n}.{kind}": (width,) for n in (1, 2) for kind in ("weight", "bias")}
    shapes = {
        "class_embedding": (width,),
        "positional_embedding": (1 + side * side, width),
        "proj": (width, embedding),
        "conv1.weight": (width, 3, patch, patch),
        **{f"ln_{n}.{kind}": (width,) for n in ("pre", "post") for kind in ("weight", "bias")},
    }
    return shapes | {
        f"transformer.resblocks.{i}.{k}": v for i in range(depth) for k, v in block.items()
    }


def text_tower(width=32):
    """open_clip's names of a text tower, beside the image tower's."""
    return {
        "positional_embedding": torch.randn(77, width),
        "text_projection": torch.randn(width, width),
        "token_embedding.weight": torch.randn(100, width),
        "ln_final.weight": torch.ones(width),
        "transformer.resblocks.0.ln_1.weight": torch.ones(width),
        "transformer.resblocks.0.attn.in_proj_weight": torch.randn(3 * width, width),
        "logit_scale": torch.tensor(4.6),
    }


def siglip_shapes(width, depth, *, patch=16, side=4, hidden=None):
    """timm's names of a SigLIP tower: no class token, an attention pool."""
    shapes = vit_shapes(width, depth, patch=patch, side=side, hidden=hidden)
    del shapes["cls_token"]
    shapes["pos_embed"] = (1, side * side, width)
    hidden = hidden or 4 * width
    layers = {"q": (width, width), "kv": (2 * width, width), "proj": (width, width)}
    layers |= {"mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}
    pool = {f"attn_pool.{name}.weight": shape for name, shape in layers.items()}
    pool |= {f"attn_pool.{name}.bias": shape[:1] for name, shape in layers.items()}
    pool |= {"attn_pool.norm.weight": (width,), "attn_pool.norm.bias": (width,)}
    return shapes | pool | {"attn_pool.latent": (1, 1, width)}
