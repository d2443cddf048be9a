"""Reducers: a student channel's group of teacher channels becomes one target map.

Source: Yue, Deng, Zhou, Matching Guided Distillation, ECCV 2020, arXiv 2008.09958.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Grouped = Float[Tensor, "n c_s g h w"]
Margin = Float[Tensor, "c_s g"]
Mask = Bool[Tensor, "c_s g"] | None
Map = Float[Tensor, "n c_s h w"]


def group_mask(assignment: Int64[Tensor, "c_s g"]) -> Bool[Tensor, "c_s g"]:
    """True where an assignment row holds a teacher channel, False at its -1 pads."""
    return assignment >= 0


def gather_groups(
    teacher: Float[Tensor, "n c_t h w"], assignment: Int64[Tensor, "c_s g"]
) -> Float[Tensor, "n c_s g h w"]:
    """Teacher maps by group; a pad repeats the group's first member."""
    index = _without_pads(assignment)
    n, _, h, w = teacher.shape
    return teacher.index_select(1, index.flatten()).view(n, *index.shape, h, w)


def gather_margin(
    margin: Float[Tensor, "c_t"], assignment: Int64[Tensor, "c_s g"]
) -> Float[Tensor, "c_s g"]:
    """Teacher margins by group; a pad repeats the group's first member."""
    return margin[_without_pads(assignment)]


def absolute_max_pooling(
    grouped: Grouped, margin: Margin, mask: Mask = None
) -> tuple[Map, Float[Tensor, "c_s"]]:
    """Per pixel the member of greatest magnitude, the positive one of an exact −a/+a tie.

    Args:
        grouped: (N, C_s, G, H, W) teacher maps by group.
        margin: (C_s, G) teacher margins by group.
        mask: (C_s, G), True where there is a member; None where every group is full.

    Returns:
        The map (N, C_s, H, W) and the members' mean margin (C_s,).
    """
    members = _members(grouped, mask)
    high, low = members.amax(2), members.amin(2)
    # The sum's sign says which is farther from 0, a tie's is +0; torch.where is far slower on CPU.
    return torch.copysign(torch.maximum(high, -low), high + low), _mean(margin, mask)


def simple_pooling(
    grouped: Grouped, margin: Margin, mask: Mask = None, kernel: str = "max"
) -> tuple[Map, Float[Tensor, "c_s"]]:
    """Per pixel the greatest member, or with ``kernel="avg"`` the members' mean; so the margin.

    Raises:
        ValueError: The kernel is neither "max" nor "avg".
    """
    members = _members(grouped, mask)
    if kernel == "max":
        filled = margin if mask is None else margin.where(mask, -torch.inf)
        return members.amax(2), filled.amax(1)
    if kernel != "avg":
        raise ValueError(f"simple pooling: got kernel {kernel!r}, expected 'max' or 'avg'")
    if mask is None:
        return members.mean(2), margin.mean(1)
    total = (members * mask.to(members.dtype)[:, :, None, None]).sum(2)
    return total / mask.sum(1)[:, None, None], _mean(margin, mask)


def average_pooling(
    grouped: Grouped, margin: Margin, mask: Mask = None
) -> tuple[Map, Float[Tensor, "c_s"]]:
    """Simple pooling with kernel avg."""
    return simple_pooling(grouped, margin, mask, kernel="avg")


def random_drop(grouped: Grouped, margin: Margin, mask: Mask = None) -> tuple[Map, Map]:
    """Per image, channel and pixel one member drawn uniformly, and the margin of the same draw.

    Draws from torch's global generator.

    Returns:
        The map and its margin, both (N, C_s, H, W).
    """
    n, c_s, g, h, w = grouped.shape
    draw = torch.rand(n, c_s, h, w, device=grouped.device)
    if mask is None:
        draw = (draw * g).long()
    else:  # the draw-th member, wherever the pads are
        draw = (draw * mask.sum(1)[:, None, None]).long()
        members = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
        draw = members[torch.arange(c_s, device=mask.device)[:, None, None], draw]
    drawn = grouped.gather(2, draw[:, :, None])[:, :, 0]
    return drawn, margin[torch.arange(c_s, device=margin.device)[:, None, None], draw]


def sparse_matching(
    grouped: Grouped, margin: Margin, mask: Mask = None
) -> tuple[Map, Float[Tensor, "c_s"]]:
    """The one matched channel and its margin; ``mask`` has nothing to hide.

    Raises:
        ValueError: Groups hold more than one channel.
    """
    if grouped.shape[2] != 1:
        raise ValueError(
            f"sparse matching: got groups of {grouped.shape[2]} channels, expected 1; "
            "assign with mode='sparse'"
        )
    return grouped[:, :, 0], margin[:, 0]


def _without_pads(assignment: Tensor) -> Tensor:
    return assignment.where(assignment >= 0, assignment[:, :1])


def _members(grouped: Tensor, mask: Tensor | None) -> Tensor:
    """Groups in which a pad repeats the row's first member, so that no extreme can be a pad."""
    if mask is None:
        return grouped
    rows, columns = mask.shape
    index = torch.arange(rows * columns, device=mask.device).view(rows, columns)
    first = mask.to(torch.uint8).argmax(1, keepdim=True)
    index = index.where(mask, index.gather(1, first))
    return grouped.flatten(1, 2).index_select(1, index.flatten()).view_as(grouped)


def _mean(margin: Tensor, mask: Tensor | None) -> Tensor:
    return margin.mean(1) if mask is None else margin.where(mask, 0).sum(1) / mask.sum(1)
