"""Methods of pretrain.py: an objective each, and how the teacher's maps are matched."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mgd_ssl.choices import Adapter
from mgd_ssl.objectives import OBJECTIVES
from mgd_ssl.settings.run import Weighing


@dataclass(frozen=True)
class Method:
    """A value of ``--method``.

    Attributes:
        objective: a name in ``OBJECTIVES``.
        options: of the objective, if they differ from its defaults.
        weighing: how the stages' losses are weighed; ``none`` matches no maps.
        adapter: layer between the student's maps and the matching.
        grid: largest side at which maps are compared; 0 for any.
        update_images: maximum number of training images for a solve.
    """

    objective: str
    options: Mapping[str, Any] = field(default_factory=dict)
    weighing: Weighing = "none"
    adapter: Adapter = "batch"
    grid: int = 0
    update_images: int = 20000

    @property
    def needs_teacher(self) -> bool:
        """Whether it requires a teacher."""
        return self.weighing != "none" or OBJECTIVES[self.objective].needs_teacher


METHODS: dict[str, Method] = {
    # The teacher's pooled features through a linear layer, and all stages matched one to one.
    "mgd-plus": Method(
        "simreg",
        {"regression_head": "linear"},
        weighing="start",
        adapter="expand",
        grid=7,
        update_images=1000,
    ),
    # The method of 2021: MoCo v2, and the matching in groups, weighed free of the images' size.
    "mgd": Method("moco", weighing="start"),
    **{name: Method(name) for name in OBJECTIVES},
}
# Default strength of the matching, by --mgd-weighing; published: for 224 pixels.
STRENGTHS: dict[Weighing, float] = {"none": 0.0, "published": 1e-4, "mean": 1.0, "start": 30.0}


def usual_weighing(said: Mapping[str, Any]) -> Weighing:
    """``start``, which finds the stages' weights; with weights of one's own, those as published."""
    return "published" if said.get("mgd_stage_weights") else "start"
