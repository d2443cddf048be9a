"""Image towers of CLIP and SigLIP in plain torch, by open_clip's and timm's names of them."""

import torch
from reference_vits import attention, feed_forward, normed, patches, projected, self_attention
from torch.nn.functional import gelu


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def clip(state, images, heads, activation=gelu):
    """open_clip's tower -> (class token before the projection, patch tokens), normed."""
    tokens = patches(images, state["conv1.weight"], None)
    class_token = state["class_embedding"].expand(len(images), 1, -1)
    x = torch.cat([class_token, tokens], dim=1) + state["positional_embedding"]
    x = normed(x, state, "ln_pre", 1e-5)
    starts = [k for k in state if k.startswith("transformer.resblocks.")]
    for i in range(1 + max(int(k.split(".")[2]) for k in starts)):
        block = {k.removeprefix(f"transformer.resblocks.{i}."): v for k, v in state.items()}
        y = normed(x, block, "ln_1", 1e-5)
        q, k, v = (y @ block["attn.in_proj_weight"].T + block["attn.in_proj_bias"]).chunk(3, -1)
        x = x + projected(attention(q, k, v, heads), block, "attn.out_proj")
        y = activation(projected(normed(x, block, "ln_2", 1e-5), block, "mlp.c_fc"))
        x = x + projected(y, block, "mlp.c_proj")
    x = normed(x, state, "ln_post", 1e-5)
    return x[:, 0], x[:, 1:]


def siglip(state, images, heads):
    """SigLIP's tower -> (what a learned query attends to, patch tokens)."""
    x = patches(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"])
    x = x + state["pos_embed"]
    for i in range(1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks."))):
        block = {k.removeprefix(f"blocks.{i}."): v for k, v in state.items()}
        x = x + self_attention(normed(x, block, "norm1", 1e-6), block, heads)
        x = x + feed_forward(normed(x, block, "norm2", 1e-6), block)
    x = normed(x, state, "norm", 1e-6)
    pool = {k.removeprefix("attn_pool."): v for k, v in state.items()}
    query = projected(pool["latent"].expand(len(x), -1, -1), pool, "q")
    key, value = projected(x, pool, "kv").chunk(2, dim=-1)
    y = projected(attention(query, key, value, heads), pool, "proj")
    y = y + feed_forward(normed(y, pool, "norm", 1e-6), pool)
    return y[:, 0], x
