"""A step of mgd-plus for the most used pairs of networks, in terms of the networks alone.

For each pair: the whole step (view, teacher, student, losses, backward, update) relative to the
teacher's forward and the student's forward and backward; and how many times as fast the step is
with channels-last, with bf16, with both, and with the teacher's answers from a cache. A cached step
decodes the answers and is relative to the student alone; reading them is left out. All in turn in
one run at 224 pixels; CPU seconds. Below 16 images one thread of torch uses slower convolutions,
for which the figures do not hold.

    python benchmarks/pairs.py [--batch 16] [--repeats 3] [--only 0 1]
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from timing import cpu_clock, describe, spread
from torch import Tensor, nn

from mgd_ssl.cache.answers import Answers
from mgd_ssl.data import Normalize, View
from mgd_ssl.models import create_backbone, find_reader, pool
from mgd_ssl.settings.cache import CacheConfig
from mgd_ssl.settings.parsing import complete
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.stages import at_most
from mgd_ssl.tasks.pretraining import Pretraining
from mgd_ssl.tasks.task import TaughtView, Teacher
from mgd_ssl.training.distillation import match_maps
from mgd_ssl.training.optimizer import build_optimizer

SIZE = 224
PAIRS: list[tuple[str, dict[str, Any], str]] = [
    ("ResNet-50 -> ResNet-18", {"arch": "resnet50"}, "resnet18"),
    (
        "ViT-S/14 -> ResNet-18",
        {"arch": "timm/vit_small_patch14_dinov2", "options": {"img_size": SIZE}},
        "resnet18",
    ),
    ("ViT-B/16 -> MobileNetV3", {"arch": "timm/vit_base_patch16_224"}, "mobilenet_v3_large"),
    (
        "ViT-S/16 -> ViT-Ti/16",
        {"arch": "timm/vit_small_patch16_224"},
        "timm/vit_tiny_patch16_224",
    ),
    ("ConvNeXt-B -> ConvNeXt-T", {"arch": "convnext_base"}, "convnext_tiny"),
]
GRID = CacheConfig.grid


class Variant(NamedTuple):
    """How a step is taken."""

    channels_last: bool = False
    bf16: bool = False
    cached: bool = False


VARIANTS = {
    "plain": Variant(),
    "channels-last": Variant(channels_last=True),
    "bf16": Variant(bf16=True),
    "both": Variant(channels_last=True, bf16=True),
    "cached": Variant(cached=True),
    "cached, both": Variant(channels_last=True, bf16=True, cached=True),
}
Step = tuple[Callable[[], None], Callable[[], None]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", type=int, nargs="*", default=range(len(PAIRS)))
    options = parser.parse_args()
    describe(options.threads, options.repeats)
    for number in options.only:
        name, teacher, student = PAIRS[number]
        steps = {v: build(teacher, student, options.batch, how) for v, how in VARIANTS.items()}
        for whole, alone in steps.values():
            whole(), alone()
        rows = [
            {
                variant: (cpu_clock(whole), cpu_clock(alone))
                for variant, (whole, alone) in steps.items()
            }
            for _ in range(options.repeats)
        ]
        report(name, rows)


def report(name: str, rows: Sequence[dict[str, tuple[float, float]]]) -> None:
    seconds = statistics.median(row["plain"][0] for row in rows)
    print(f"{name}: {seconds:.2f} CPU seconds a step", flush=True)
    for variant in VARIANTS:
        shares = [row[variant][0] / row[variant][1] for row in rows]
        faster = [row["plain"][0] / row[variant][0] for row in rows]
        ratios = f"step / networks {spread(shares)}; plain step / this {spread(faster)}"
        print(f"  {variant:<14} {ratios}", flush=True)


def build(teacher: dict[str, Any], student: str, batch: int, variant: Variant) -> Step:
    """The whole step, and the networks' part of it."""
    torch.manual_seed(0)
    config = complete(
        PretrainConfig,
        data=Path("images"),
        teacher=Path("teacher.pt"),
        arch=student,
        batch_size=batch,
        **({"mgd_grid": GRID} if variant.cached else {}),
    )
    task = build_task(config, create_backbone(**teacher))
    optimizer = build_optimizer(config, task, decay=0.05)
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    task.to(memory_format=layout)
    view = View(config.views, SIZE)
    images = torch.randint(0, 256, (batch, 3, SIZE, SIZE), dtype=torch.uint8)
    plain = torch.rand(batch, 3, SIZE, SIZE).to(memory_format=layout)
    columns = stored(task, plain) if variant.cached else {}

    def seen() -> Tensor | TaughtView:
        views: Tensor = view(images)
        if not variant.cached:
            return views
        answers = Answers.decode(columns)
        return TaughtView(views, answers.maps, answers.output)

    def whole() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=variant.bf16):
            losses: dict[str, Tensor] = task(seen())
        torch.stack([*losses.values()]).sum().backward()
        optimizer.step()

    def networks() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=variant.bf16):
            if not variant.cached:
                with torch.no_grad():
                    task.teacher.network(plain)  # type: ignore[union-attr]
            output = task.student(plain)
        output.float().sum().backward()

    return whole, networks


def stored(task: Pretraining, images: Tensor) -> dict[str, Tensor]:
    """What a cache holds of the teacher's answers to images."""
    assert task.teacher
    maps, output = task.teacher(images)
    return Answers([at_most(x, GRID) for x in maps], pool(output)).encode()


def build_task(config: PretrainConfig, network: nn.Module) -> Pretraining:
    """A task of mgd-plus whose matching is solved from random costs."""
    network = network.eval().requires_grad_(False)
    student = create_backbone(config.network.arch or "")
    teacher = Teacher(network, find_reader(network, (), SIZE), Normalize())
    distillation = match_maps(config, teacher, student)
    loss = config.objective.build(student, int(network.num_features))  # type: ignore[arg-type]
    task = Pretraining(student, config.objective, loss, Normalize(), **distillation).train()
    distiller = distillation["distiller"]
    if distiller.needs_measuring:
        task.measure([torch.rand(4, 3, SIZE, SIZE)])
    task.solve([torch.rand(4, 3, SIZE, SIZE)])
    return task


if __name__ == "__main__":
    main()
