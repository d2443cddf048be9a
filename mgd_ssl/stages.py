"""Which map of the student meets which of the teacher; checked before a run starts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.matching import CostAccumulator
from mgd_ssl.matching.margins import batchnorm_margin, is_batch_norm

UNBOUNDED = -1e30  # finite, so that means over a group stay finite


class MisfitError(ValueError):
    """Stages of two networks that cannot be matched; says what helps all of them at once."""


@dataclass(frozen=True)
class Stage:
    """A pair of maps, one of each network.

    Attributes:
        index: position among all stages, ignored ones too; later stages weigh more.
        name: the student's name of the stage.
        student_channels: C_s.
        teacher_channels: C_t.
        side: (H, W) of both maps, where they were probed.
        ignored: whether the stage takes no part; then it has no adapter and no assignment.
        linear: whether no batch norm and activation follow the teacher's map; then its margin is
            unbounded.
    """

    index: int
    name: str
    student_channels: int
    teacher_channels: int
    side: tuple[int, int] | None = None
    ignored: bool = False
    linear: bool = False

    @property
    def warnings(self) -> list[str]:
        """What a user should know before the run."""
        notes = ["ignored"] if self.ignored else []
        if not self.ignored and self.side == (1, 1):
            notes.append(
                "side 1: only signs are compared; use larger images or --ignore this stage"
            )
        if not self.ignored and self.teacher_channels == self.student_channels:
            notes.append("as many channels: groups of one")
        return notes


def plan_stages(
    teacher_maps: Sequence[Tensor],
    student_maps: Sequence[Tensor],
    names: Sequence[str],
    ignore: Sequence[int] = (),
    norms: Sequence[nn.Module | None] | None = None,
    linear: Sequence[int] = (),
) -> list[Stage]:
    """Pair the maps of two networks.

    Args:
        teacher_maps: a (N,C_t,H,W) a stage.
        student_maps: a (N,C_s,H,W) a stage.
        names: a name a stage.
        ignore: indices of stages that take no part.
        norms: the teacher's batch norm before each map, where margins are to be read from them.
        linear: indices of stages whose maps are linear, without such a norm.

    Raises:
        MisfitError: of some stages the sides differ, the student's is wider than the teacher's, or
            the teacher's map has no batch norm before it.
        ValueError: the numbers of stages differ, or an ignored index does not exist.
    """
    teacher_channels = [m.shape[1] for m in teacher_maps]
    student_channels = [m.shape[1] for m in student_maps]
    stages = _pair(teacher_channels, student_channels, names, ignore, linear)
    sides = [
        ((s.shape[2], s.shape[3]), (t.shape[2], t.shape[3]))
        for s, t in zip(student_maps, teacher_maps, strict=True)
    ]
    _refuse_misfits(
        stages,
        lambda stage: (
            _too_wide(stage)
            or _other_side(stage, *sides[stage.index])
            or (norms is not None and _no_norm(stage, norms))
        ),
    )
    return [replace(stage, side=side[0]) for stage, side in zip(stages, sides, strict=True)]


def plan_channels(
    teacher_channels: Sequence[int],
    student_channels: Sequence[int],
    names: Sequence[str],
    ignore: Sequence[int] = (),
    linear: Sequence[int] = (),
) -> list[Stage]:
    """Pair stages by their channels alone; see `plan_stages`."""
    stages = _pair(teacher_channels, student_channels, names, ignore, linear)
    _refuse_misfits(stages, _too_wide)
    return stages


def _pair(
    teacher_channels: Sequence[int],
    student_channels: Sequence[int],
    names: Sequence[str],
    ignore: Sequence[int],
    linear: Sequence[int],
) -> list[Stage]:
    if len(teacher_channels) != len(student_channels):
        raise ValueError(
            f"taps: got {len(student_channels)} student stages and {len(teacher_channels)} teacher "
            "stages, expected as many of each; name them with --taps and --teacher-taps"
        )
    wrong = [i for i in ignore if not 0 <= i < len(names)]
    if wrong:
        raise ValueError(f"ignore: got stage {wrong[0]}, expected 0 to {len(names) - 1}")
    pairs = zip(names, student_channels, teacher_channels, strict=True)
    stages = [
        Stage(i, name, s, t, ignored=i in set(ignore), linear=i in set(linear))
        for i, (name, s, t) in enumerate(pairs)
    ]
    if all(stage.ignored for stage in stages):
        raise ValueError("ignore: every stage is ignored, expected one or more to distil")
    return stages


Misfit = tuple[str, str] | None | Literal[False]  # what is wrong with a stage, and what helps


def _refuse_misfits(stages: Sequence[Stage], misfit: Callable[[Stage], Misfit]) -> None:
    """Name all stages that cannot be matched in one message, with what makes the rest go."""
    found = {s.index: wrong for s in stages if not s.ignored and (wrong := misfit(s))}
    if not found:
        return
    out = [str(s.index) for s in stages if s.ignored or s.index in found]
    cures = list(dict.fromkeys(cure for _, cure in found.values()))
    if len(out) < len(stages):
        cures.insert(0, f"--ignore {' '.join(out)}")
    problems = "; ".join(problem for problem, _ in found.values())
    none_left = "" if len(out) < len(stages) else "; no stage is left to match"
    raise MisfitError(f"{problems}{none_left}; {', or '.join(cures)}")


def _too_wide(stage: Stage) -> Misfit:
    return stage.student_channels > stage.teacher_channels and (
        f"stage {stage.name}: the student is wider ({stage.student_channels} channels) than the "
        f"teacher ({stage.teacher_channels}), expected at most as many",
        "take a thinner student or a wider teacher",
    )


def _other_side(stage: Stage, student: tuple[int, int], teacher: tuple[int, int]) -> Misfit:
    return student != teacher and (
        f"stage {stage.name}: the student's side is {student[0]}×{student[1]}, the teacher's "
        f"{teacher[0]}×{teacher[1]}, expected the same",
        "move the taps, or give both networks the same stem",
    )


def _no_norm(stage: Stage, norms: Sequence[nn.Module | None]) -> Misfit:
    return not (stage.linear or is_batch_norm(norms[stage.index])) and (
        f"stage {stage.name}: the teacher has no batch norm before its map, and the margin is "
        "taken from it",
        "tap a map after a batch norm",
    )


def read_margins(norms: Sequence[nn.Module | None], stages: Sequence[Stage]) -> list[Tensor]:
    """Margins (C_t,) of the stages that take part.

    A linear map's margin is below any response: the target is the teacher's map itself.

    Args:
        norms: the teacher's batch norm before each map that is not linear, its weights loaded.
        stages: from `plan_stages`.

    Raises:
        MisfitError: a stage's map has no batch norm before it.
    """
    _refuse_misfits(stages, lambda stage: _no_norm(stage, norms))
    return [
        torch.full((stage.teacher_channels,), UNBOUNDED)
        if stage.linear
        else batchnorm_margin(cast(nn.Module, norms[stage.index]))
        for stage in stages
        if not stage.ignored
    ]


def gather_costs(
    stages: Sequence[Stage],
    pairs: Iterable[tuple[Sequence[Tensor], Sequence[Tensor]]],
    device: torch.device | str = "cpu",
) -> list[Tensor]:
    """Mean cost (C_s,C_t) of each stage that takes part, over all images of all ranks.

    Args:
        stages: from `plan_stages`.
        pairs: (student maps, teacher maps) of each batch of this rank's share.
        device: of the maps, where a rank without any batch keeps its sums.
    """
    active = [stage for stage in stages if not stage.ignored]
    accumulators = [CostAccumulator(s.student_channels, s.teacher_channels, device) for s in active]
    for student_maps, teacher_maps in pairs:
        for stage, accumulator in zip(active, accumulators, strict=True):
            accumulator.update(student_maps[stage.index], teacher_maps[stage.index])
    for accumulator in accumulators:
        for tensor in accumulator.state():
            distributed.all_reduce_sum(tensor)
    return [accumulator.result() for accumulator in accumulators]
