"""Feature distillation: maps of a student and of a teacher in, named losses out.

A `FeatureDistiller` holds everything of the method that a run must keep: an adapter, the margins
and the assignment of each stage. It holds no network, so that one class serves self-supervised
pretraining, classification and detection, and a checkpoint does not carry the teacher again.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.adapters import make_adapter
from mgd_ssl.choices import Adapter, AssignmentMode
from mgd_ssl.grouping import Grouping, mode_of
from mgd_ssl.matching import (
    float64_device,
    matched_pairs,
    matching_loss,
    share_channels,
    stage_weights,
    total_cost,
)
from mgd_ssl.progress import tracked
from mgd_ssl.stages import Stage, at_most, gather_costs, same_side
from mgd_ssl.targets import Maps, TeacherTargets

Reduction = Literal["sum", "image", "element"]


@dataclass(frozen=True)
class StageMatching:
    """What one solve gave for one stage.

    Attributes:
        name: the stage.
        cost: (C_s,C_t) float64.
        assignment: (C_s,G) int64, -1 pads.
        total: the assigned pairs' cost, summed.
        changed: teacher channels whose student channels are others than before.
    """

    name: str
    cost: Tensor
    assignment: Tensor
    total: float
    changed: int


class FeatureDistiller(nn.Module):
    """Adapters, margins and the assignment of each stage; maps in, named losses out.

    Source: Yue, Deng, Zhou, Matching Guided Distillation, ECCV 2020.

    Args:
        stages: from `plan_stages`.
        margins: (C_t,) for each stage that takes part, from `read_margins`; NaN is measured before
            the first solve, by `measure`.
        reducer: a name in ``REDUCERS``.
        mode: how channels are assigned; the reducer's own mode unless given.
        adapter: ``batch``, BatchNorm2d on the student's map; ``group``, GroupNorm(32), with fewer
            groups where these would hold less than two channels; or ``expand``, a 1×1 convolution
            to the teacher's channels, each of which is then matched to one: the reducer has
            nothing to reduce.
        reduction: what a stage's sum is divided by: nothing, the images summed, or the elements.
        scale: factor on every stage.
        stage_scale: factor on a stage by its index; 1/2^(n-1-i) for n stages unless given.
        grid: largest side at which maps are compared; larger ones are averaged to it. 0: any.

    Example:
        >>> distiller = FeatureDistiller(stages, margins, reducer="amp")
        >>> distiller.solve(costs)
        >>> losses = distiller(student_maps, teacher_maps)  # {"matching/layer1": ...}
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        margins: Sequence[Tensor],
        *,
        reducer: str = "amp",
        mode: AssignmentMode | None = None,
        adapter: Adapter = "batch",
        reduction: Reduction = "image",
        scale: float = 1e-4,
        stage_scale: Callable[[int], float] | None = None,
        grid: int = 0,
    ) -> None:
        super().__init__()
        if reduction not in get_args(Reduction):
            raise ValueError(f"reduction: got {reduction!r}, expected 'sum', 'image' or 'element'")
        self.expands: bool = adapter == "expand"
        self.stages = [stage for stage in stages if not stage.ignored]
        self.reducer, self.reduction, self.grid = reducer, reduction, grid
        self.grouping = Grouping(mode_of(reducer, mode), self.expands)
        stage_scale = stage_scale or stage_weights(len(stages)).__getitem__
        self.scales = [scale * stage_scale(stage.index) for stage in self.stages]
        self.adapters = nn.ModuleDict(
            {
                stage.name: make_adapter(adapter, stage.student_channels, stage.teacher_channels)
                for stage in self.stages
            }
        )
        self.solves = 0
        self.targets = TeacherTargets(self.stages, margins)
        for stage in self.stages:
            empty = torch.full((self.grouping.rows(stage), self.grouping.size(stage)), -1)
            self.register_buffer(f"assignment_{stage.name}", empty)

    def forward(
        self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Losses of the stages, each scaled.

        Args:
            student_maps: a raw (N,C_s,H,W) a stage, ignored stages included.
            teacher_maps: all of the teacher's maps, a (N,C_t,H',W') each.

        Returns:
            ``matching/NAME`` -> float32 scalar.

        Raises:
            RuntimeError: the matching was never solved, or statistics were never measured.
        """
        if not self.solves:
            raise RuntimeError(
                "the matching was not solved; call solve(), or mgd_update(), before the first step"
            )
        if self.needs_measuring:
            raise RuntimeError(
                "the teacher's channels were not measured; call measure() before the first step"
            )
        return {
            f"matching/{stage.name}": self._loss(
                stage, scale, student_maps[stage.index], teacher_maps[stage.teacher_index]
            )
            for stage, scale in zip(self.stages, self.scales, strict=True)
        }

    @torch.no_grad()
    def calibrate(self, pairs: Iterable[tuple[Maps, Maps]], start: float) -> list[float]:
        """Choose each stage's scale so that its loss begins at ``start``; free of resolution.

        A stage with a borrowed map of the teacher begins at its `Stage.share` of that.

        Args:
            pairs: (student maps, teacher maps) of a few batches, this rank's share; the matching
                is solved.
            start: what every stage's loss is to begin at, above 0.

        Raises:
            ValueError: a stage's loss is zero or not finite, so that no scale brings it there.
        """
        *totals, batches = self._unscaled_sums(pairs)
        for stage, total in zip(self.stages, totals, strict=True):
            if not 0 < total < float("inf"):
                raise ValueError(
                    f"stage {stage.name}: its loss is {total} over {batches:.0f} batches, expected "
                    f"above 0 and finite; --ignore {stage.index}, or give published weights"
                )
        each = zip(self.stages, totals, strict=True)
        self.scales = [stage.share * start * batches / total for stage, total in each]
        return self.scales

    def _unscaled_sums(self, pairs: Iterable[tuple[Maps, Maps]]) -> list[float]:
        """The stages' losses at scales of 1, summed over all ranks' batches; how many these are."""
        place = float64_device(self.device)
        sums = torch.zeros(len(self.stages) + 1, dtype=torch.float64, device=place)
        own, self.scales = self.scales, [1.0] * len(self.stages)
        try:
            for student_maps, teacher_maps in pairs:
                losses = self(student_maps, teacher_maps).values()
                sums += torch.stack([*(loss.to(place) for loss in losses), sums.new_ones(())])
        finally:
            self.scales = own
        found: list[float] = distributed.all_reduce_sum(sums).tolist()
        return found

    def _loss(self, stage: Stage, scale: float, student: Tensor, teacher: Tensor) -> Tensor:
        adapted, target = self._on_one_grid(stage, student, teacher)
        assignment, margin = self.assignment(stage), self.margin(stage)
        loss = matching_loss(
            adapted,
            target,
            assignment,
            margin,
            self.reducer,
            full=self.grouping.is_full(stage),
            two_sided=stage.form == "standard",
        )
        divisor = {"sum": 1, "image": student.shape[0], "element": adapted.numel()}[self.reduction]
        return loss * (scale / divisor)

    def _on_one_grid(self, stage: Stage, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """The student's map through its adapter, and what it is matched to, on one grid."""
        adapter, target = self.adapters[stage.name], self._target(stage, teacher)
        if not self.expands:
            return same_side(adapter(student), target)
        student, target = same_side(student, target)  # a mean before a linear layer is cheaper
        return adapter(student), target

    @property
    def device(self) -> torch.device:
        """Where the state is."""
        return self.margin(self.stages[0]).device

    def assignment(self, stage: Stage) -> Tensor:
        """(C_s,G) int64, -1 pads."""
        return self.get_buffer(f"assignment_{stage.name}")

    def margin(self, stage: Stage) -> Tensor:
        """(C_t,) float32."""
        return self.targets.margin(stage)

    @property
    def needs_measuring(self) -> bool:
        """Whether statistics of the teacher's channels are missing; see `measure`."""
        return not self.targets.measured

    def measure(self, teacher_maps: Iterable[Maps]) -> None:
        """Measure what no batch norm tells; see `TeacherTargets.measure`."""
        self.targets.measure([at_most(x, self.grid) for x in maps] for maps in teacher_maps)

    def set_margins(self, margins: Sequence[Tensor]) -> None:
        """Replace the margins, say after other weights were loaded into the teacher."""
        self.targets.set_margins(margins)

    @property
    def is_settled(self) -> bool:
        """Whether the assignment stays as it is: an expansion is matched once, then it learns."""
        return self.expands and bool(self.solves)

    @torch.no_grad()
    def costs(self, pairs: Iterable[tuple[Maps, Maps]]) -> list[Tensor]:
        """Mean cost of each stage that takes part, over all images of all ranks.

        Args:
            pairs: (student maps, teacher maps) of each batch of this rank's share.

        Returns:
            (C_s,C_t) float64 each, (C_t,C_t) where the student's maps are expanded first.
        """
        channels = [(self.grouping.rows(s), s.teacher_channels) for s in self.stages]
        return gather_costs(channels, (self._compared(*maps) for maps in pairs), self.device)

    def _compared(self, student_maps: Maps, teacher_maps: Maps) -> list[tuple[Tensor, Tensor]]:
        """What costs are taken of, a pair a stage that takes part: no norms, but expansions."""
        maps = [(s, student_maps[s.index], teacher_maps[s.teacher_index]) for s in self.stages]
        if self.expands:
            return [self._on_one_grid(*each) for each in maps]
        return [(student, self._target(stage, teacher)) for stage, student, teacher in maps]

    def _target(self, stage: Stage, teacher: Tensor) -> Tensor:
        target: Tensor = self.targets(stage, at_most(teacher, self.grid))
        return target

    @torch.no_grad()
    def solve(self, costs: Sequence[Tensor]) -> list[StageMatching]:
        """Solve each stage's assignment on rank 0 and give it to every rank.

        Args:
            costs: from `costs`, the same on every rank.
        """
        pairs = zip(self.stages, costs, strict=True)
        shown = tracked(pairs, "assignments", len(self.stages), "stages")
        results = [self._solve(stage, cost) for stage, cost in shown]
        self.solves += 1
        return results

    def _solve(self, stage: Stage, cost: Tensor) -> StageMatching:
        assignment = self.assignment(stage)
        before = matched_pairs(assignment, stage.teacher_channels)
        cost, mode = cost.cpu(), self.grouping.mode
        assignment.copy_(distributed.from_first(lambda: share_channels(cost, mode)))
        after = matched_pairs(assignment, stage.teacher_channels)
        changed = int((before != after).any(0).sum()) if self.solves else 0
        solved = assignment.detach().cpu().clone()
        return StageMatching(stage.name, cost, solved, float(total_cost(cost, solved)), changed)

    def get_extra_state(self) -> dict[str, Any]:
        """How often the matching was solved, and the stages' scales; part of ``state_dict``."""
        return {"solves": self.solves, "scales": self.scales}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Counterpart of `get_extra_state`."""
        self.solves, self.scales = state["solves"], state.get("scales", self.scales)
