"""A detector's maps, read in one pass through its backbone."""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.detection import RetinaNet

from mgd_ssl.models.dict_backbones import BODY_MODULES, PROBE_SIDE
from mgd_ssl.models.tap_finder import find_taps
from mgd_ssl.models.taps import Tap, Taps

PYRAMID_MODULES = {
    "p3": "layer_blocks.0",
    "p4": "layer_blocks.1",
    "p5": "layer_blocks.2",
    "p6": "extra_blocks.p6",
    "p7": "extra_blocks.p7",
}


class BodyReader(Taps):
    """Reads C2..C5 before their last ReLU, and P3..P7, in one pass through the backbone."""

    def __call__(self, network: RetinaNet, x: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:  # type: ignore[override]
        """Normalized and padded (N,3,H,W) -> the maps, and P3..P7 for the heads."""
        return self._read(network, network.backbone, x)

    @property
    def linear(self) -> list[int]:
        """Positions of the pyramid's maps, which no batch norm and activation follow."""
        return [i for i, name in enumerate(self.names) if name in PYRAMID_MODULES]

    def body(self, network: RetinaNet, x: Tensor) -> list[Tensor]:
        """The maps alone, (N,3,H,W) -> (N,C_i,H_i,W_i).

        The pyramid is computed only if one of P3..P7 is read.
        """
        part = network.backbone if self.linear else network.backbone.body
        return self._read(network, part, x)[0]

    def _read(
        self, network: RetinaNet, part: nn.Module, x: Tensor
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        with self.recording(network) as maps:
            features = part(x)
        return [self._checked(tap, maps) for tap in self.taps], features


def body_reader(
    detector: RetinaNet, levels: Sequence[str] = ("c2", "c3", "c4", "c5")
) -> BodyReader:
    """Create the reader of a detector's maps, and keep activations from overwriting them.

    Args:
        detector: from `create_detector`.
        levels: some of c2..c5, whose margins come from their batch norms, and of p3..p7, which
            have none.

    Raises:
        ValueError: no level, an unknown level, or a repeated one.
    """
    known = [*BODY_MODULES, *PYRAMID_MODULES]
    if not levels or not set(levels) <= set(known) or len(set(levels)) < len(levels):
        raise ValueError(f"levels: got {', '.join(levels) or 'none'}, expected some of {known}")
    overrides = [f"{name}={BODY_MODULES[name]}" for name in levels if name in BODY_MODULES]
    found = find_taps(detector.backbone.body, overrides, PROBE_SIDE).taps if overrides else []
    taps = {tap.name: tap.below("backbone.body") for tap in found}
    taps |= {n: Tap(n, f"backbone.fpn.{path}", "output") for n, path in PYRAMID_MODULES.items()}
    return BodyReader([taps[name] for name in levels])
