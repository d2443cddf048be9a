"""The teacher's side of the matching: margins, and statistics that standardize its channels."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.matching import StatisticsAccumulator
from mgd_ssl.stages import Stage

Maps = Sequence[Tensor]


class TeacherTargets(nn.Module):
    """What each stage is matched to, and the margins below which it does not count.

    Args:
        stages: those that take part.
        margins: (C_t,) a stage, from `read_margins`; NaN is measured.

    Attributes:
        measured: whether nothing is left to measure.
    """

    def __init__(self, stages: Sequence[Stage], margins: Sequence[Tensor]) -> None:
        super().__init__()
        self.stages = list(stages)
        self.measured = not any(bool(margin.isnan().any()) for margin in margins)
        for stage, margin in zip(self.stages, margins, strict=True):
            self.register_buffer(f"margin_{stage.name}", margin.detach().clone())
            if stage.form == "standard":
                self.register_buffer(f"mean_{stage.name}", torch.zeros(stage.teacher_channels))
                self.register_buffer(f"std_{stage.name}", torch.ones(stage.teacher_channels))

    def forward(self, stage: Stage, teacher: Tensor) -> Tensor:
        """The teacher's map (N,C_t,H,W), standardized where no activation follows it."""
        if stage.form != "standard":
            return teacher
        mean, std = (self.get_buffer(f"{name}_{stage.name}") for name in ("mean", "std"))
        with torch.autocast(teacher.device.type, enabled=False):
            return (teacher.float() - mean[:, None, None]) / std[:, None, None]

    def margin(self, stage: Stage) -> Tensor:
        """(C_t,) float32."""
        return self.get_buffer(f"margin_{stage.name}")

    @torch.no_grad()
    def set_margins(self, margins: Sequence[Tensor]) -> None:
        """Replace the margins, say after other weights were loaded into the teacher."""
        for stage, margin in zip(self.stages, margins, strict=True):
            self.margin(stage).copy_(margin)

    @torch.no_grad()
    def measure(self, teacher_maps: Iterable[Maps]) -> None:
        """Measure what no batch norm tells: the channels' mean, deviation and margin; then frozen.

        Args:
            teacher_maps: all of the teacher's maps, of each batch of this rank's share.
        """
        unknown = [stage for stage in self.stages if self.margin(stage).isnan().any()]
        device = self.margin(self.stages[0]).device
        sums = [StatisticsAccumulator(stage.teacher_channels, device) for stage in unknown]

        def add_all() -> None:
            for maps in teacher_maps:
                for stage, accumulator in zip(unknown, sums, strict=True):
                    accumulator.update(maps[stage.teacher_index])

        distributed.together(add_all)
        for stage, accumulator in zip(unknown, sums, strict=True):
            distributed.all_reduce_sum(accumulator.sums)
            found = accumulator.result()
            self.margin(stage).copy_(found.margin)
            if stage.form == "standard":
                self.get_buffer(f"mean_{stage.name}").copy_(found.mean)
                self.get_buffer(f"std_{stage.name}").copy_(found.std)
        self.measured = True

    def get_extra_state(self) -> dict[str, Any]:
        """Whether nothing is left to measure; part of ``state_dict``."""
        return {"measured": self.measured}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Counterpart of `get_extra_state`."""
        self.measured = bool(state["measured"])
