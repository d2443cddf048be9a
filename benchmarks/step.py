"""Share of a pretraining step that is spent outside the networks' own forward and backward.

R50 -> R18 at 224 pixels, batch 16 on the CPU. In turn, in one run: the whole step (views, teacher,
MoCo, matching loss, backward, optimizer) and the networks alone (teacher forward, student forward
and backward, key encoder forward). Target: a median share under 12 %.

    python benchmarks/step.py [--batch 16] [--size 224] [--repeats 7]
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch
from timing import in_turn
from torch import Tensor

from mgd_ssl.data import Normalize, View
from mgd_ssl.distiller import FeatureDistiller
from mgd_ssl.models import create_backbone, find_reader, probe, split_batch_norms
from mgd_ssl.objectives.moco import MoCo
from mgd_ssl.settings.views import PRESETS
from mgd_ssl.stages import plan_stages, read_margins
from mgd_ssl.tasks.pretraining import Pretraining
from mgd_ssl.tasks.task import Teacher

QUEUE = 65536


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.manual_seed(0)
    whole, networks = build(options.batch, options.size)
    rows = in_turn({"step": whole, "networks": networks}, options.repeats)
    seconds = [row["step"] for row in rows]
    shares = [100 * (row["step"] - row["networks"]) / row["step"] for row in rows]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {options.batch}")
    print(f"step: median {statistics.median(seconds):.2f} CPU seconds")
    low, high = min(shares), max(shares)
    print(
        f"outside the networks: median {statistics.median(shares):.1f} %, {low:.1f} to {high:.1f}"
    )


def build(batch: int, size: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """The whole step, and the networks' part of it."""
    teacher = create_backbone("resnet50").eval().requires_grad_(False)
    student = create_backbone("resnet18")
    teacher_reader, student_reader = find_reader(teacher), find_reader(student)
    student_maps = probe(student, student_reader, size)
    stages = plan_stages(
        probe(teacher, teacher_reader, size), student_maps, student_reader.names, ()
    )
    distiller = FeatureDistiller(stages, read_margins(teacher_reader.norms(teacher), stages))
    distiller.solve([torch.rand(s.student_channels, s.teacher_channels).double() for s in stages])
    split_batch_norms(student, 8)
    objective = MoCo(moco_k=QUEUE)
    moco: Any = objective.build(student, 0)
    frozen = Teacher(teacher, teacher_reader, Normalize())
    parts: dict[str, Any] = {"teacher": frozen, "reader": student_reader, "distiller": distiller}
    task = Pretraining(student, objective, moco, Normalize(), **parts)
    parameters = [p for p in task.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, 0.03, momentum=0.9, weight_decay=1e-4)
    view = View(PRESETS["moco_v2"], size)
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
    plain = torch.rand(batch, 3, size, size)

    def whole() -> None:
        losses = task(view(images), view(images))
        total: Tensor = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()

    def networks() -> None:
        with torch.no_grad():
            teacher(plain)
            moco.encoder_k(plain)
        moco.encoder_q(plain).sum().backward()

    return whole, networks


if __name__ == "__main__":
    main()
