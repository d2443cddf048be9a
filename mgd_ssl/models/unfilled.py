"""Networks that are built without their random initial values, which others take the place of."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# What draws a parameter's initial values, and the steps by which a truncated normal is drawn.
OF_TORCH = ["uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_"]
OF_TORCH += ["xavier_uniform_", "xavier_normal_"]
STEPS = ["uniform_", "normal_", "erfinv_", "mul_", "add_", "clamp_"]
FILLS = frozenset(getattr(nn.init, name) for name in OF_TORCH)
FILLS |= {getattr(Tensor, name) for name in STEPS}


def unfilled() -> AbstractContextManager[Any]:
    """Inside, parameters of new networks hold whatever is in memory.

    Buffers have their values. For networks of which only the shapes are asked, and for those whose
    every parameter is then read from a file: a large transformer takes many seconds to fill.
    """
    return _Unfilled()


class _Unfilled(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if func in FILLS:
            target = args[0] if args else given.get("tensor")
            if isinstance(target, nn.Parameter):
                return target
        return func(*args, **given)
