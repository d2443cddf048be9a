"""Families of networks whose files are told by their keys: one module each, one line here.

A family says by which entry its files are found, which state dicts are its own, how their entries
are called in the network that is built, and which network that is. See `Family`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mgd_ssl.models.families.clip import Clip, SigLip, TimmClip
from mgd_ssl.models.families.convnext import (
    ConvNeXt,
    DinoV3ConvNeXt,
    HuggingFaceDinoV3ConvNeXt,
    TimmConvNeXt,
)
from mgd_ssl.models.families.dinov2 import DinoV2, TimmDinoV2
from mgd_ssl.models.families.dinov3 import DinoV3, TimmDinoV3
from mgd_ssl.models.families.family import Family, Remapped, Terms
from mgd_ssl.models.families.hugging_face import HuggingFaceDinoV2, HuggingFaceDinoV3
from mgd_ssl.models.families.licenses import published_terms
from mgd_ssl.models.families.mae import Mae
from mgd_ssl.models.families.moco_v3 import MocoV3
from mgd_ssl.models.families.vit import PlainVit
from mgd_ssl.models.specs import BackboneSpec

__all__ = [
    "ANCHORS",
    "FAMILIES",
    "Family",
    "Known",
    "Remapped",
    "Terms",
    "know",
    "published_terms",
    "recognize",
]

NAMELESS = Path()
SIZES = {"embed_dim", "depth", "dims", "depths"}  # options that make another network of one
# The first that recognizes a state dict takes it: the particular before the general.
FAMILIES: tuple[Family, ...] = (
    DinoV2(),
    DinoV3(),
    TimmDinoV3(),
    HuggingFaceDinoV2(),
    HuggingFaceDinoV3(),
    DinoV3ConvNeXt(),
    HuggingFaceDinoV3ConvNeXt(),
    ConvNeXt(),
    TimmConvNeXt(),
    Clip(),
    TimmClip(),
    SigLip(),
    TimmDinoV2(),
    MocoV3(),
    Mae(),
    PlainVit(),
)
ANCHORS = tuple(dict.fromkeys(anchor for family in FAMILIES for anchor in family.anchors))


def recognize(state: Mapping[str, Any]) -> Family | None:
    """The family whose file a state dict is from; None where no family knows it."""
    return next((family for family in FAMILIES if family.recognizes(state)), None)


@dataclass(frozen=True)
class Known:
    """A state dict that a family knows.

    Attributes:
        family: whose layout it is in.
        read: its entries by the network's names.
        spec: the network.
    """

    family: Family
    read: Remapped
    spec: BackboneSpec


def know(
    family: Family, state: Mapping[str, Any], arch: str | None = None, path: Path = NAMELESS
) -> Known:
    """Read a state dict that a family recognizes.

    Args:
        family: see `recognize`.
        state: name -> tensor.
        arch: the architecture where the user names it.
        path: of the file.

    Raises:
        ValueError: a shape that no network of the family has, or the entries of another network
            than is named.
    """
    read = family.remap({k: v for k, v in state.items() if isinstance(v, Tensor)})
    spec = family.spec(read, arch, path)
    if arch and _is_resized(spec):
        _refuse_other(family, read, arch, path)
    return Known(family, read, spec)


def _is_resized(spec: BackboneSpec) -> bool:
    """Whether a network has other depths or widths than its name says."""
    return not SIZES.isdisjoint(dict(spec.options))


def _refuse_other(family: Family, read: Remapped, arch: str, path: Path) -> None:
    """Refuse to read a published network under the name of another one."""
    try:
        told = family.spec(read, None, path)
    except ValueError:  # it is not told without a name
        return
    if not _is_resized(told):
        raise ValueError(
            f"got the entries of {told.arch}, expected those of {arch}; leave --arch or "
            "--teacher-arch out"
        )
