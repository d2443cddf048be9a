"""ConvNeXt in plain torch, by its authors' formulas and their files' own names."""

from torch.nn.functional import conv2d, gelu, layer_norm, linear


def normed(x, state, name):
    """LayerNorm over the channels of (N,C,H,W)."""
    x = x.permute(0, 2, 3, 1)
    x = layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)
    return x.permute(0, 3, 1, 2)


def convolved(x, state, name, **options):
    return conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)


def block(x, state, name):
    out = convolved(x, state, f"{name}.dwconv", padding=3, groups=x.shape[1])
    out = normed(out, state, f"{name}.norm").permute(0, 2, 3, 1)
    out = linear(out, state[f"{name}.pwconv1.weight"], state[f"{name}.pwconv1.bias"])
    out = linear(gelu(out), state[f"{name}.pwconv2.weight"], state[f"{name}.pwconv2.bias"])
    return x + (state[f"{name}.gamma"] * out).permute(0, 3, 1, 2)


def convnext(state, images):
    """(class token (N,D), the last map (N,D,h,w) before its norm), as DINOv3's authors have them.

    The class token is the mean of the last map, normed; so are ConvNeXt's own pooled features.
    """
    x = normed(convolved(images, state, "downsample_layers.0.0", stride=4), state, STEM_NORM)
    for stage in range(4):
        if stage:
            x = normed(x, state, f"downsample_layers.{stage}.0")
            x = convolved(x, state, f"downsample_layers.{stage}.1", stride=2)
        starts = (k for k in state if k.startswith(f"stages.{stage}."))
        for i in range(1 + max(int(k.split(".")[2]) for k in starts)):
            x = block(x, state, f"stages.{stage}.{i}")
    pooled = x.mean(dim=(2, 3), keepdim=True)
    return normed(pooled, state, "norm").flatten(1), x


STEM_NORM = "downsample_layers.0.1"
