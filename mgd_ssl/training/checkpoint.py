"""Checkpoints of a run, and its student alone."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from mgd_ssl.files import copy_whole, write_bytes, write_whole
from mgd_ssl.models import BackboneSpec, backbone_state, read_checkpoint
from mgd_ssl.settings.run import RunConfig
from mgd_ssl.training.logging import logger
from mgd_ssl.training.restoring import check_sections

LAST, BEST = "last.pt", "best.pt"
NONE: Mapping[str, Any] = MappingProxyType({})


def save_checkpoint(path: Path, content: Mapping[str, Any], written: Path | None = None) -> None:
    """Save tensors and plain values; see `write_whole`.

    Args:
        path: of the file.
        content: of it.
        written: a file that holds the same content and is copied, which is faster.
    """
    if written:
        copy_whole(written, path)
    else:
        write_whole(path, lambda file: torch.save(dict(content), file))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, tensors and plain values only.

    Raises:
        ValueError: the file is missing, truncated or of another kind.
    """
    content, _ = read_checkpoint(path)
    if "progress" not in content:
        raise ValueError(
            f"resume: {path} is no checkpoint of a run of this project; give a run's "
            "checkpoints/last.pt, or give other projects' files to --teacher"
        )
    return content


def last_of(folder: Path) -> Path:
    """The checkpoint to go on from: last.pt, or best.pt where a run ended between the two.

    A run writes best.pt first, with all that last.pt has.
    """
    last, best = folder / LAST, folder / BEST
    return best if best.is_file() and not last.is_file() else last


def read_last(folder: Path) -> dict[str, Any] | None:
    """The last checkpoint of a run, each entry checked; None, and that is said, without one.

    Raises:
        ValueError: see `load_checkpoint` and `check_sections`.
    """
    path = last_of(folder)
    if not path.is_file():
        logger.info("nothing to resume in %s: starting anew", folder.parent)
        return None
    if path.name == BEST:
        logger.warning("%s is missing: going on from %s", folder / LAST, BEST)
    content = load_checkpoint(path)
    check_sections(path, content)
    return content


def export_student(
    path: Path,
    state: Mapping[str, Tensor],
    spec: BackboneSpec,
    normalization: Mapping[str, Any],
    size: int,
    provenance: Mapping[str, Any] = NONE,
) -> None:
    """Write a backbone as safetensors, with the keys of torchvision or timm and no head."""
    metadata = {
        "backbone": json.dumps(spec.to_dict()),
        "normalisation": json.dumps(normalization),
        "size": str(size),
    }
    if provenance:
        metadata["provenance"] = json.dumps(provenance)
    content = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    write_bytes(path, with_sorted_metadata(to_safetensors(content, metadata)))


def with_sorted_metadata(content: bytes) -> bytes:
    """A safetensors file whose bytes follow from what it holds; safetensors itself shuffles keys.

    Format: the header's length in eight bytes, the header as JSON, the tensors at multiples of
    eight bytes.
    """
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[start:]


def export_backbone(
    config: RunConfig, student: nn.Module, directory: Path, provenance: Mapping[str, Any]
) -> None:
    """Write the student without its head, under torchvision's or timm's keys."""
    export_student(
        directory / "student.safetensors",
        backbone_state(student),
        cast(BackboneSpec, student.spec),
        config.loader.normalization,
        config.loader.size,
        provenance,
    )
