"""From a batch to new weights: gradients of its parts, a limit on them, the average of weights."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from mgd_ssl.fabric import Fabric
from mgd_ssl.training.average import StudentAverage


def in_parts(
    fabric: Fabric, module: Any, inputs: Sequence[Any], count: int
) -> Iterator[dict[str, Tensor]]:
    """Losses of one part of a batch after the other, which add up to those of the batch.

    Processes exchange gradients after the last part only. The gradient is to be taken between two
    parts.

    Args:
        fabric: devices and precision.
        module: set up by Fabric; takes ``inputs`` and gives named means over images.
        inputs: tensors (N, …), also in lists and named tuples.
        count: of the parts, which divides N.
    """
    for number in range(count):
        part = [part_of(x, number, count) for x in inputs]
        with fabric.no_backward_sync(module, enabled=number + 1 < count):
            yield {name: loss / count for name, loss in module(*part).items()}


def part_of(value: Any, number: int, count: int) -> Any:
    """Part ``number`` of ``count`` of every tensor (N, …) in lists and named tuples."""
    if isinstance(value, Tensor):
        return value.chunk(count)[number]
    parts = [part_of(v, number, count) for v in value]
    return type(value)(*parts) if hasattr(value, "_fields") else parts


def update_weights(
    fabric: Fabric,
    module: Any,
    optimizer: Any,
    *,
    largest: float | None = None,
    average: StudentAverage | None = None,
) -> None:
    """Change the weights by their gradients, and the average by the weights.

    Args:
        fabric: devices and precision.
        module: set up by Fabric.
        optimizer: set up by Fabric.
        largest: norm of the gradient to which a larger one is scaled down; None for no limit.
        average: of the student; None where none is kept.
    """
    if largest is not None:  # gradients may overflow in fp16, whose scaler then leaves out the step
        fabric.clip_gradients(module, optimizer, max_norm=largest, error_if_nonfinite=False)
    optimizer.step()
    if average:
        average.update()
