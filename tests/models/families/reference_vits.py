"""Vision transformers in plain torch, by their authors' formulas and their files' own names.

An oracle for what is read from files: it knows nothing of timm and nothing of this project.
"""

import torch
from torch.nn.functional import gelu, interpolate, layer_norm, linear, silu


def normed(x, state, name, eps):
    return layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def projected(x, state, name):
    return linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def patches(images, weight, bias):
    """(N,3,H,W) -> (N,h·w,D): each patch's pixels times the weights."""
    width, _, side, _ = weight.shape
    n, c, rows, columns = images.shape
    cut = images.reshape(n, c, rows // side, side, columns // side, side)
    pixels = cut.permute(0, 2, 4, 1, 3, 5).reshape(n, -1, c * side * side)
    tokens = pixels @ weight.reshape(width, -1).T
    return tokens if bias is None else tokens + bias


def attention(q, k, v, heads):
    """(N,Q,D), (N,L,D), (N,L,D) -> (N,Q,D): softmax(q·k / sqrt(d)) v in every head."""
    n, length, width = q.shape
    q, k, v = (t.reshape(n, t.shape[1], heads, -1).transpose(1, 2) for t in (q, k, v))
    weights = (q @ k.transpose(-1, -2) / (width // heads) ** 0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).reshape(n, length, width)


def dinov2(state, images, heads):
    """facebookresearch/dinov2 -> (class token, registers, patch tokens), all normed."""
    tokens = patches(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"])
    side = state["patch_embed.proj.weight"].shape[-1]
    grid = images.shape[-2] // side, images.shape[-1] // side
    registers = state.get("register_tokens")
    n = len(images)
    positions = dinov2_positions(state["pos_embed"], grid, with_registers=registers is not None)
    x = torch.cat([state["cls_token"].expand(n, -1, -1), tokens], dim=1) + positions
    if registers is not None:
        x = torch.cat([x[:, :1], registers.expand(n, -1, -1), x[:, 1:]], dim=1)
    count = 0 if registers is None else registers.shape[1]
    for i in range(1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks."))):
        block = {k.removeprefix(f"blocks.{i}."): v for k, v in state.items()}
        x = x + block["ls1.gamma"] * self_attention(normed(x, block, "norm1", 1e-6), block, heads)
        x = x + block["ls2.gamma"] * feed_forward(normed(x, block, "norm2", 1e-6), block)
    x = normed(x, state, "norm", 1e-6)
    return x[:, 0], x[:, 1 : 1 + count], x[:, 1 + count :]


def dinov2_positions(positions, grid, *, with_registers):
    """Resized as the authors' published networks do: with and without registers differ."""
    own = int((positions.shape[1] - 1) ** 0.5)
    if grid == (own, own):
        return positions
    maps = positions[:, 1:].reshape(1, own, own, -1).permute(0, 3, 1, 2)
    if with_registers:
        maps = interpolate(maps, size=grid, mode="bicubic", antialias=True)
    else:
        factors = tuple(float(side + 0.1) / own for side in grid)
        maps = interpolate(maps, scale_factor=factors, mode="bicubic", antialias=False)
    assert tuple(maps.shape[-2:]) == grid
    return torch.cat([positions[:, :1], maps.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def self_attention(x, block, heads):
    q, k, v = projected(x, block, "attn.qkv").chunk(3, dim=-1)
    return projected(attention(q, k, v, heads), block, "attn.proj")


def feed_forward(x, block):
    if "mlp.w12.weight" in block:
        gate, value = projected(x, block, "mlp.w12").chunk(2, dim=-1)
        return projected(silu(gate) * value, block, "mlp.w3")
    return projected(gelu(projected(x, block, "mlp.fc1")), block, "mlp.fc2")


def dinov3(state, images, heads):
    """facebookresearch/dinov3 -> (class token, registers, patch tokens), all normed."""
    tokens = patches(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"])
    side = state["patch_embed.proj.weight"].shape[-1]
    grid = images.shape[-2] // side, images.shape[-1] // side
    registers, n = state["storage_tokens"], len(images)
    prefix = [state["cls_token"].expand(n, -1, -1), registers.expand(n, -1, -1)]
    x = torch.cat([*prefix, tokens], dim=1)
    angles = dinov3_angles(state["rope_embed.periods"], grid)
    for i in range(1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks."))):
        block = {k.removeprefix(f"blocks.{i}."): v for k, v in state.items()}
        out = turned_attention(normed(x, block, "norm1", 1e-5), block, heads, angles)
        x = x + block["ls1.gamma"] * out
        out = dinov3_feed_forward(normed(x, block, "norm2", 1e-5), block)
        x = x + block["ls2.gamma"] * out
    x = normed(x, state, "norm", 1e-5)
    count = registers.shape[1]
    return x[:, 0], x[:, 1 : 1 + count], x[:, 1 + count :]


def dinov3_angles(periods, grid):
    """(h·w,D/heads): rows, then columns, of the patches' centers in [-1,1], and both again."""
    centers = [2 * (torch.arange(side) + 0.5) / side - 1 for side in grid]
    rows, columns = torch.meshgrid(*centers, indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], dim=1)
    angles = 2 * torch.pi * places[:, :, None] / periods.float()
    return angles.flatten(1).repeat(1, 2)


def turned_attention(x, block, heads, angles):
    """Queries and keys of the patches are turned by their angles; the prefix's are not."""
    bias = block.get("attn.qkv.bias")
    if bias is not None:
        bias = bias * block.get("attn.qkv.bias_mask", torch.ones_like(bias))
    q, k, v = linear(x, block["attn.qkv.weight"], bias).chunk(3, dim=-1)
    q, k = (turned(t, heads, angles) for t in (q, k))
    return projected(attention(q, k, v, heads), block, "attn.proj")


def turned(x, heads, angles):
    n, length, width = x.shape
    split = x.reshape(n, length, heads, -1)
    prefix, patch = split[:, : length - len(angles)], split[:, length - len(angles) :]
    first, second = patch.chunk(2, dim=-1)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    patch = patch * cos + torch.cat([-second, first], dim=-1) * sin
    return torch.cat([prefix, patch], dim=1).reshape(n, length, width)


def dinov3_feed_forward(x, block):
    if "mlp.w1.weight" in block:
        gate, value = projected(x, block, "mlp.w1"), projected(x, block, "mlp.w2")
        return projected(silu(gate) * value, block, "mlp.w3")
    return projected(gelu(projected(x, block, "mlp.fc1")), block, "mlp.fc2")


def vit(state, images, heads, eps=1e-6):
    """DINO, MoCo v3, MAE and DeiT -> (class token, patch tokens), all normed."""
    tokens = patches(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"])
    x = torch.cat([state["cls_token"].expand(len(images), -1, -1), tokens], dim=1)
    x = x + state["pos_embed"]
    for i in range(1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks."))):
        block = {k.removeprefix(f"blocks.{i}."): v for k, v in state.items()}
        x = x + self_attention(normed(x, block, "norm1", eps), block, heads)
        x = x + feed_forward(normed(x, block, "norm2", eps), block)
    if "fc_norm.weight" in state:  # fine-tuned by the mean of the patches
        return normed(x[:, 1:].mean(dim=1), state, "fc_norm", eps), x[:, 1:]
    x = normed(x, state, "norm", eps)
    return x[:, 0], x[:, 1:]
