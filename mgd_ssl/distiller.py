"""Feature distillation: maps of a student and of a teacher in, named losses out.

A `FeatureDistiller` holds everything of the method that a run must keep: an adapter, the margins
and the assignment of each stage. It holds no network, so that one class serves self-supervised
pretraining, classification and detection, and a checkpoint does not carry the teacher again.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.choices import Adapter, AssignmentMode, usual_mode
from mgd_ssl.matching import (
    REDUCERS,
    assign_channels,
    float64_device,
    matching_loss,
    stage_weights,
    total_cost,
)
from mgd_ssl.stages import Stage, gather_costs

Reduction = Literal["sum", "image", "element"]
Maps = Sequence[Tensor]


@dataclass(frozen=True)
class StageMatching:
    """What one solve gave for one stage.

    Attributes:
        name: the stage.
        cost: (C_s,C_t) float64.
        assignment: (C_s,G) int64, -1 pads.
        total: the assigned pairs' cost, summed.
        changed: teacher channels whose student channel is another than before.
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
        margins: (C_t,) for each stage that takes part, from `read_margins`.
        reducer: a name in ``REDUCERS``.
        mode: how channels are assigned; the reducer's own mode unless given.
        adapter: ``batch``, BatchNorm2d on the student's map; ``group``, GroupNorm(32), with fewer
            groups where these would hold less than two channels; or ``expand``, a 1×1 convolution
            to the teacher's channels, each of which is then matched to one: the reducer has
            nothing to reduce.
        reduction: what a stage's sum is divided by: nothing, the images summed, or the elements.
        scale: factor on every stage.
        stage_scale: factor on a stage by its index; 1/2^(n-1-i) for n stages unless given.

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
    ) -> None:
        super().__init__()
        _check_options(reducer, mode, adapter, reduction)
        self.expands: bool = adapter == "expand"
        self.stages = [stage for stage in stages if not stage.ignored]
        self.reducer, self.reduction = reducer, reduction
        self.mode = mode or usual_mode(reducer)
        stage_scale = stage_scale or stage_weights(len(stages), images=1, factor=1.0).__getitem__
        self.scales = [scale * stage_scale(stage.index) for stage in self.stages]
        self.adapters = nn.ModuleDict(
            {stage.name: _make_adapter(adapter, stage) for stage in self.stages}
        )
        self.solves, self.gain = 0, 1.0  # the gain is a function of the position in a run
        for stage, margin in zip(self.stages, margins, strict=True):
            self.register_buffer(f"margin_{stage.name}", margin.detach().clone())
            empty = torch.full((self._rows(stage), self._group_size(stage)), -1)
            self.register_buffer(f"assignment_{stage.name}", empty)

    def forward(
        self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Losses of the stages, each scaled, and all of them by ``gain``.

        Args:
            student_maps: a raw (N,C_s,H,W) a stage, ignored stages included.
            teacher_maps: a (N,C_t,H,W) a stage, ignored stages included.

        Returns:
            ``matching/NAME`` -> float32 scalar.

        Raises:
            RuntimeError: the matching was never solved.
        """
        if not self.solves:
            raise RuntimeError(
                "the matching was not solved; call solve(), or mgd_update(), before the first step"
            )
        return {
            f"matching/{stage.name}": self._loss(
                stage, self.gain * scale, student_maps[stage.index], teacher_maps[stage.index]
            )
            for stage, scale in zip(self.stages, self.scales, strict=True)
        }

    @torch.no_grad()
    def calibrate(self, pairs: Iterable[tuple[Maps, Maps]], start: float = 0.03) -> list[float]:
        """Choose each stage's scale so that its loss begins at ``start``; free of resolution.

        Args:
            pairs: (student maps, teacher maps) of a few batches, this rank's share; the matching
                is solved.
            start: what every stage's loss is to begin at, above 0.

        Raises:
            ValueError: a stage's loss is zero or not finite, so that no scale brings it there.
        """
        self.scales, self.gain = [1.0] * len(self.stages), 1.0
        place = float64_device(self.device)
        sums = torch.zeros(len(self.stages) + 1, dtype=torch.float64, device=place)
        for student_maps, teacher_maps in pairs:
            losses = self(student_maps, teacher_maps)
            sums += torch.stack([*(loss.to(place) for loss in losses.values()), sums.new_ones(())])
        *totals, batches = distributed.all_reduce_sum(sums).tolist()
        for stage, total in zip(self.stages, totals, strict=True):
            if not 0 < total < float("inf"):
                raise ValueError(
                    f"stage {stage.name}: its loss is {total} over {batches:.0f} batches, expected "
                    f"above 0 and finite; --ignore {stage.index}, or give published weights"
                )
        self.scales = [start * batches / total for total in totals]
        return self.scales

    def _loss(self, stage: Stage, scale: float, student: Tensor, teacher: Tensor) -> Tensor:
        adapted: Tensor = self.adapters[stage.name](student)
        assignment, margin = self.assignment(stage), self.margin(stage)
        full = self.mode != "balanced" or stage.teacher_channels % len(assignment) == 0
        loss = matching_loss(adapted, teacher, assignment, margin, self.reducer, full=full)
        divisor = {"sum": 1, "image": student.shape[0], "element": adapted.numel()}[self.reduction]
        return loss * (scale / divisor)

    @property
    def device(self) -> torch.device:
        """Where the state is."""
        return self.margin(self.stages[0]).device

    def assignment(self, stage: Stage) -> Tensor:
        """(C_s,G) int64, -1 pads."""
        return self.get_buffer(f"assignment_{stage.name}")

    def margin(self, stage: Stage) -> Tensor:
        """(C_t,) float32."""
        return self.get_buffer(f"margin_{stage.name}")

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
        if not self.expands:
            return gather_costs(self.stages, pairs, self.device)
        wide = [replace(s, student_channels=s.teacher_channels) for s in self.stages]
        expanded = ((self._expanded(student), teacher) for student, teacher in pairs)
        return gather_costs(wide, expanded, self.device)

    def _expanded(self, student_maps: Maps) -> list[Tensor]:
        """The maps of stages that take part through their expansions; the others as they are."""
        maps = list(student_maps)
        for stage in self.stages:
            maps[stage.index] = self.adapters[stage.name](maps[stage.index])
        return maps

    @torch.no_grad()
    def solve(self, costs: Sequence[Tensor]) -> list[StageMatching]:
        """Solve each stage's assignment on rank 0 and give it to every rank.

        Args:
            costs: from `costs`, the same on every rank.
        """
        results = [self._solve(stage, cost) for stage, cost in zip(self.stages, costs, strict=True)]
        self.solves += 1
        return results

    def _solve(self, stage: Stage, cost: Tensor) -> StageMatching:
        assignment = self.assignment(stage)
        before = _owners(assignment, stage.teacher_channels)
        if distributed.rank() == 0:
            assignment.copy_(assign_channels(cost, self.mode))
        distributed.broadcast(assignment)
        after = _owners(assignment, stage.teacher_channels)
        changed = int((before != after).sum()) if self.solves else 0
        solved = assignment.detach().cpu().clone()
        return StageMatching(
            stage.name, cost.cpu(), solved, float(total_cost(cost.cpu(), solved)), changed
        )

    @torch.no_grad()
    def set_margins(self, margins: Sequence[Tensor]) -> None:
        """Replace the margins, say after other weights were loaded into the teacher."""
        for stage, margin in zip(self.stages, margins, strict=True):
            self.margin(stage).copy_(margin)

    def get_extra_state(self) -> dict[str, Any]:
        """How often the matching was solved, and the stages' scales; part of ``state_dict``."""
        return {"solves": self.solves, "scales": self.scales}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Counterpart of `get_extra_state`."""
        self.solves, self.scales = state["solves"], state.get("scales", self.scales)

    def _group_size(self, stage: Stage) -> int:
        if self.mode == "sparse":
            return 1
        whole, rest = divmod(stage.teacher_channels, self._rows(stage))
        return whole + (rest > 0 and self.mode == "balanced")

    def _rows(self, stage: Stage) -> int:
        """Channels that teacher channels are assigned to."""
        return stage.teacher_channels if self.expands else stage.student_channels


def _check_options(reducer: str, mode: str | None, adapter: str, reduction: str) -> None:
    if adapter not in get_args(Adapter):
        raise ValueError(
            f"adapter: got {adapter!r}, expected one of {', '.join(get_args(Adapter))}"
        )
    if reducer not in REDUCERS:
        raise ValueError(f"reducer: got {reducer!r}, expected one of {', '.join(REDUCERS)}")
    if reducer == "sm" and mode not in (None, "sparse"):
        raise ValueError(
            f"mode: got {mode!r} with reducer 'sm', expected 'sparse', its groups of 1"
        )
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction: got {reduction!r}, expected 'sum', 'image' or 'element'")


def _make_adapter(kind: Adapter, stage: Stage) -> nn.Module:
    channels = stage.student_channels
    if kind == "expand":
        return nn.Conv2d(channels, stage.teacher_channels, kernel_size=1)
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    groups = math.gcd(32, max(1, channels // 2))  # 32 from 64 channels on, as published
    return nn.GroupNorm(groups, channels)


def _owners(assignment: Tensor, teacher_channels: int) -> Tensor:
    """(C_t,): the student channel of each teacher channel, -1 where it has none."""
    owners = torch.full((teacher_channels,), -1, device=assignment.device)
    rows = torch.arange(assignment.shape[0], device=assignment.device)
    rows = rows.unsqueeze(1).expand_as(assignment)
    held = assignment >= 0
    owners[assignment[held]] = rows[held]
    return owners
