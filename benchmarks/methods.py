"""Time of a step of mgd-plus in terms of SimReg's: views, both networks, losses, update.

Two pairs: ResNet-50 -> ResNet-18 at 224 pixels, and at 32 the networks of docs/results_earlier.md.
In turn in one run; CPU seconds, which other work on the machine disturbs least. Target: at most
1.15.

    python benchmarks/methods.py [--repeats 7]
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from timing import describe, in_turn, spread

from mgd_ssl.data import Normalize, View
from mgd_ssl.distiller import FeatureDistiller
from mgd_ssl.models import create_backbone, find_reader, probe
from mgd_ssl.objectives.simreg import SimReg
from mgd_ssl.settings.views import PRESETS
from mgd_ssl.stages import plan_stages, read_margins
from mgd_ssl.tasks.pretraining import Pretraining
from mgd_ssl.tasks.task import Teacher

SMALL: dict[str, Any] = {"stem": "small", "stem_stride": 2}
WIDE, NARROW = SMALL | {"width": 0.5}, SMALL | {"width": 0.125}
PAIRS: dict[str, tuple[Any, Any, int, int]] = {
    "R50 -> R18, 224 pixels, batch 8": ({"arch": "resnet50"}, {}, 224, 8),
    "R18/2 -> R18/8, 32 pixels, batch 128": (WIDE, NARROW, 32, 128),
}
METHODS = {"simreg": None, "mgd-plus": "expand", "in groups": "batch"}  # -> the adapter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    describe(options.threads, options.repeats)
    for name, pair in PAIRS.items():
        steps = {method: build(*pair, adapter) for method, adapter in METHODS.items()}
        rows = in_turn(steps, options.repeats)
        for method in ("mgd-plus", "in groups"):
            ratios = [row[method] / row["simreg"] for row in rows]
            print(f"{name:<38} {method:<10} {spread(ratios)}")


def build(
    wide: dict[str, Any], narrow: dict[str, Any], size: int, batch: int, adapter: Any
) -> Callable[[], None]:
    """A step of SimReg, or with an adapter of its linear form beside the matching."""
    torch.manual_seed(0)
    teacher = create_backbone(**wide).eval().requires_grad_(False)
    student = create_backbone(**narrow)
    readers = find_reader(teacher, (), size), find_reader(student, (), size)
    head = "linear" if adapter else "four"
    objective = SimReg(regression_head=head)  # type: ignore[arg-type]
    loss = objective.build(student, int(teacher.num_features))  # type: ignore[arg-type]
    parts: dict[str, Any] = {"teacher": Teacher(teacher, readers[0], Normalize())}
    if adapter:
        maps = probe(teacher, readers[0], size), probe(student, readers[1], size)
        stages = plan_stages(*maps, readers[1].names, ())
        margins = read_margins(readers[0].norms(teacher), stages)
        distiller = FeatureDistiller(stages, margins, adapter=adapter, reduction="element")
        rows = [s.teacher_channels if adapter == "expand" else s.student_channels for s in stages]
        distiller.solve(
            [torch.rand(r, s.teacher_channels).double() for r, s in zip(rows, stages, strict=True)]
        )
        parts |= {"reader": readers[1], "distiller": distiller}
    task = Pretraining(student, objective, loss, Normalize(), **parts)
    trained = [p for p in task.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, 0.05, momentum=0.9, weight_decay=1e-4)
    view = View(PRESETS["moco_v2" if size > 96 else "small"], size)
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)

    def step() -> None:
        loss = torch.stack(list(task(view(images)).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
