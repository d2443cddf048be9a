"""Lightning Fabric, imported without torchmetrics.

Where torchmetrics is installed, Fabric imports all of it, SciPy's and matplotlib's modules among
it, to learn its version. Nothing here uses it, and a command starts a good second earlier without.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def _without_torchmetrics() -> Iterator[None]:
    """Inside, torchmetrics cannot be imported, unless it was already."""
    hidden = {} if "torchmetrics" in sys.modules else {"torchmetrics": None}
    sys.modules |= hidden  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _without_torchmetrics():
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import (
        ClusterEnvironment,
        LightningEnvironment,
        SLURMEnvironment,
    )
    from lightning_fabric.plugins.precision import MixedPrecision
    from lightning_fabric.strategies import DDPStrategy

__all__ = [
    "Autocast",
    "ClusterEnvironment",
    "DDPStrategy",
    "Fabric",
    "LightningEnvironment",
    "SLURMEnvironment",
]


class Autocast(MixedPrecision):  # type: ignore[misc]
    """Mixed precision by autocast alone: what a module is given keeps its precision.

    Fabric's own rounds it first: boxes would move by pixels, and pixels by half a gray level.
    """

    def convert_input(self, data: Any) -> Any:
        """The arguments of a module, as they are."""
        return data
