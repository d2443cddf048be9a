"""Which map of the student meets which of the teacher; checked before a run starts."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mgd_ssl import distributed
from mgd_ssl.matching import CostAccumulator
from mgd_ssl.matching.margins import batchnorm_margin, is_batch_norm

UNBOUNDED = -1e30  # finite, so that means over a group stay finite
FARTHEST = 2.5  # ratio of sides up to which a map of another side is matched: 16 and 7
BORROWED_SHARE = 1 / 30  # of the strength with which `FeatureDistiller.calibrate` begins a stage
Side = tuple[int, int]
# What a teacher's map is: before an activation that cuts negative values off (its margin says how
# deep they count); without one, compared as it is where it is larger (a pyramid's levels); or
# without one, each channel standardized, both sides counting.
Form = Literal["rectified", "linear", "standard"]


@dataclass(frozen=True)
class Stage:
    """A pair of maps, one of each network.

    Attributes:
        index: position among the student's stages, ignored ones too; later stages weigh more.
        name: the student's name of the stage.
        student_channels: C_s.
        teacher_channels: C_t.
        teacher_index: position of the teacher's map among all its maps; the student's own position
            unless given.
        form: what the teacher's map is.
        student_side: (H, W) of the student's map, where it was probed.
        teacher_side: (H, W) of the teacher's map, where it was probed.
        borrowed: whether the teacher has fewer maps than the student has stages, so that other
            stages meet this one's map too.
        ignored: whether the stage takes no part; then it has no adapter and no assignment.
    """

    index: int
    name: str
    student_channels: int
    teacher_channels: int
    teacher_index: int = -1
    form: Form = "rectified"
    student_side: Side | None = None
    teacher_side: Side | None = None
    borrowed: bool = False
    ignored: bool = False

    def __post_init__(self) -> None:
        if self.teacher_index < 0:
            object.__setattr__(self, "teacher_index", self.index)

    @property
    def share(self) -> float:
        """Part of the strength with which the stage's loss begins."""
        return BORROWED_SHARE if self.borrowed else 1.0

    @property
    def warnings(self) -> list[str]:
        """What a user should know before the run."""
        if self.ignored:
            return ["ignored"]
        notes = []
        if (1, 1) in (self.student_side, self.teacher_side):
            notes.append("side 1: only signs are compared; use larger images, or --ignore it")
        if self.student_side != self.teacher_side:
            notes.append("resized")
        if self.teacher_channels == self.student_channels:
            notes.append("as many channels: groups of one")
        if self.teacher_channels < self.student_channels:
            notes.append("a teacher channel serves several")
        return notes


def plan_stages(
    teacher_maps: Sequence[Tensor],
    student_maps: Sequence[Tensor],
    names: Sequence[str],
    ignore: Sequence[int] = (),
    forms: Sequence[Form] | None = None,
    enlarged: float = 1.0,
) -> list[Stage]:
    """Pair the maps of two networks: in order where both have as many, else by their sides.

    Where the numbers differ a student's map meets the teacher's of the nearest side, the deepest of
    equals, and is ignored where even that is more than `FARTHEST` times as large or small. Sides
    are those that the maps of images of one side would have.

    Args:
        teacher_maps: a (N,C_t,H,W) for each of the teacher's maps.
        student_maps: a (N,C_s,H,W) a stage.
        names: a name a stage.
        ignore: indices of stages that take no part.
        forms: of the teacher's maps; all rectified unless given.
        enlarged: side of the teacher's images over that of the student's.

    Raises:
        ValueError: an ignored index does not exist, or no stage is left.
    """
    sides = [_side(m) for m in student_maps], [_side(m) for m in teacher_maps]
    alike = [(height / enlarged, width / enlarged) for height, width in sides[1]]
    found = partners(sides[0], alike)
    far = [
        i
        for i, (side, j) in enumerate(zip(sides[0], found, strict=True))
        if len(student_maps) != len(teacher_maps) and _distance(side, alike[j]) > FARTHEST
    ]
    stages = _stages(
        [m.shape[1] for m in student_maps],
        [teacher_maps[j].shape[1] for j in found],
        names,
        [*ignore, *(far if len(far) < len(names) else ())],
        [forms[j] if forms else "rectified" for j in found],
    )
    fewer = len(teacher_maps) < len(student_maps)
    return [
        replace(
            s,
            teacher_index=j,
            student_side=sides[0][s.index],
            teacher_side=sides[1][j],
            borrowed=fewer and found.count(j) > 1,
        )
        for s, j in zip(stages, found, strict=True)
    ]


def plan_channels(
    teacher_channels: Sequence[int],
    student_channels: Sequence[int],
    names: Sequence[str],
    ignore: Sequence[int] = (),
    forms: Sequence[Form] | None = None,
) -> list[Stage]:
    """Pair stages in order, by their channels alone; see `plan_stages`.

    Raises:
        ValueError: the numbers of stages differ, an ignored index does not exist, or none is left.
    """
    if len(teacher_channels) != len(student_channels):
        raise ValueError(
            f"taps: got {len(student_channels)} student stages and {len(teacher_channels)} teacher "
            "stages, expected as many of each"
        )
    forms = forms or ["rectified"] * len(names)
    return _stages(student_channels, teacher_channels, names, ignore, forms)


def partners(
    student: Sequence[tuple[float, float]], teacher: Sequence[tuple[float, float]]
) -> list[int]:
    """The teacher's map that each of the student's meets, by their sides."""
    if len(student) == len(teacher):
        return list(range(len(student)))
    return [
        min(range(len(teacher)), key=lambda j: (_distance(side, teacher[j]), -j))
        for side in student
    ]


def _side(map_: Tensor) -> Side:
    return int(map_.shape[2]), int(map_.shape[3])


def _distance(a: tuple[float, float], b: tuple[float, float]) -> float:
    """How many times as large one map is as the other, at least 1."""
    ratio = math.sqrt(a[0] * a[1] / (b[0] * b[1]))
    return max(ratio, 1 / ratio)


def _stages(
    student_channels: Sequence[int],
    teacher_channels: Sequence[int],
    names: Sequence[str],
    ignore: Sequence[int],
    forms: Sequence[Form],
) -> list[Stage]:
    wrong = [i for i in ignore if not 0 <= i < len(names)]
    if wrong:
        raise ValueError(f"ignore: got stage {wrong[0]}, expected 0 to {len(names) - 1}")
    each = zip(names, student_channels, teacher_channels, forms, strict=True)
    stages = [
        Stage(i, name, s, t, form=form, ignored=i in set(ignore))
        for i, (name, s, t, form) in enumerate(each)
    ]
    if all(stage.ignored for stage in stages):
        raise ValueError("ignore: every stage is ignored, expected one or more to distil")
    return stages


def read_margins(norms: Sequence[nn.Module | None], stages: Sequence[Stage]) -> list[Tensor]:
    """Margins (C_t,) of the stages that take part; NaN where they have to be measured.

    Args:
        norms: the batch norm before each of the teacher's maps, its weights loaded, or None.
        stages: from `plan_stages`.
    """
    margins = []
    for stage in (s for s in stages if not s.ignored):
        norm = norms[stage.teacher_index]
        if stage.form == "rectified" and norm is not None and is_batch_norm(norm):
            margins.append(batchnorm_margin(norm))
        else:
            unknown = UNBOUNDED if stage.form == "linear" else torch.nan
            margins.append(torch.full((stage.teacher_channels,), unknown))
    return margins


def same_side(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps on one grid: the larger is pooled to the smaller's side, by the mean.

    Args:
        student: (N,C_s,H,W).
        teacher: (N,C_t,H',W').
    """
    ours, theirs = _side(student), _side(teacher)
    if ours == theirs:
        return student, teacher
    smaller = min(ours, theirs, key=lambda side: side[0] * side[1])
    return _pooled(student, smaller), _pooled(teacher, smaller)


def at_most(x: Tensor, grid: int) -> Tensor:
    """A map (N,C,H,W) of which no side is above ``grid``, by the mean; as it is where that is 0."""
    height, width = _side(x)
    return _pooled(x, (min(height, grid), min(width, grid))) if grid else x


def _pooled(x: Tensor, side: Side) -> Tensor:
    return x if _side(x) == side else F.adaptive_avg_pool2d(x, side)


def gather_costs(
    channels: Iterable[tuple[int, int]],
    pairs: Iterable[Sequence[tuple[Tensor, Tensor]]],
    device: torch.device | str = "cpu",
) -> list[Tensor]:
    """Mean cost (C_s,C_t) of each pair of maps, over all images of all ranks.

    Args:
        channels: C_s and C_t of each pair of maps.
        pairs: (student's map, teacher's map) each, of every batch of this rank's share.
        device: of the maps, where a rank without any batch keeps its sums.
    """
    accumulators = [CostAccumulator(ours, theirs, device) for ours, theirs in channels]

    def add_all() -> None:
        for batch in pairs:
            for maps, accumulator in zip(batch, accumulators, strict=True):
                accumulator.update(*same_side(*maps))

    distributed.together(add_all)
    for accumulator in accumulators:
        for tensor in accumulator.state():
            distributed.all_reduce_sum(tensor)
    return [accumulator.result() for accumulator in accumulators]
