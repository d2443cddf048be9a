"""Time of an update: the loop over tensors, foreach and fused, in terms of the loop's.

The parameters are those of a ResNet-18 and of a ViT-Ti on the CPU. In turn in one run, on random
gradients; CPU seconds, which other work on the machine disturbs least.

    python benchmarks/optimizers.py [--repeats 15]
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from timing import describe, in_turn, spread
from torch import nn

from mgd_ssl.models import create_backbone

NETWORKS = ("resnet18", "timm/vit_tiny_patch16_224")
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "AdamW": lambda p, **how: torch.optim.AdamW(p, 1e-3, weight_decay=0.05, **how),
    "SGD": lambda p, **how: torch.optim.SGD(p, 1e-3, momentum=0.9, weight_decay=1e-4, **how),
}
HOW: dict[str, dict[str, bool]] = {
    "loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
UPDATES = 5  # in one timing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    describe(options.threads, options.repeats)
    for name in NETWORKS:
        for optimizer, make in OPTIMIZERS.items():
            updates = {how: update(create_backbone(name), make, how) for how in HOW}
            rows = in_turn(updates, options.repeats)
            loop = 1000 * statistics.median(row["loop"] for row in rows) / UPDATES
            print(f"{name}, {optimizer}: loop {loop:.1f} ms")
            for how in ("foreach", "fused"):
                ratios = [row["loop"] / row[how] for row in rows]
                print(f"  {how}: {spread(ratios, ' times as fast')}")


def update(
    network: nn.Module, make: Callable[..., torch.optim.Optimizer], how: str
) -> Callable[[], None]:
    """Some updates of a network of its own."""
    torch.manual_seed(0)
    parameters = [*network.parameters()]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer = make(parameters, **HOW[how])

    def run() -> None:
        for _ in range(UPDATES):
            optimizer.step()

    return run


if __name__ == "__main__":
    main()
