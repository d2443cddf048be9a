"""What is said where a file holds no network that can be read, or another one."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mgd_ssl.models.families import ANCHORS as FAMILY_ANCHORS
from mgd_ssl.models.families import know, recognize
from mgd_ssl.models.file_entries import FileEntries, shown
from mgd_ssl.models.guessing import ANCHORS, guess_spec
from mgd_ssl.models.layouts import find_places, read_place, state_dicts
from mgd_ssl.models.other_files import what_instead
from mgd_ssl.models.specs import BackboneSpec


def nothing_found(entries: FileEntries, content: Mapping[str, Any], arch: str | None) -> ValueError:
    """The error where no network is found in a file, with what helps."""
    path, state = entries.path, next((s for _, s in state_dicts(content)), None)
    if state is None:
        return ValueError(
            f"checkpoint: {path} holds no state dict; its entries are "
            f"{', '.join(map(str, list(content)[:8])) or 'none'}; expected one of the layouts of "
            "MoCo, DINO, SwAV, solo-learn, torchvision or timm"
        )
    instead = what_instead(content)
    if instead:
        return ValueError(f"checkpoint: {path} holds {instead}")
    named = ", ".join(list(state)[:4])
    if arch:
        return ValueError(
            f"checkpoint: {path} holds none of the entries of {arch}; its keys are {named}, …; "
            f"{advice(path, content)}"
        )
    said = f" The file calls it {shown(entries.arch())}" if entries.arch() else ""
    return ValueError(
        f"checkpoint: {path}: the architecture cannot be told from its keys ({named}, …); name it: "
        f"--arch or --teacher-arch.{said}"
    )


def advice(path: Path, content: Mapping[str, Any], used: BackboneSpec | None = None) -> str:
    """The options that name the network whose tensors these are."""
    for place in find_places(content, ANCHORS):
        try:
            shown_spec = guess_spec(path, read_place(content, place), None)
        except ValueError:
            continue
        if used is None or replace(shown_spec, stem_stride=used.stem_stride) != used:
            options = [f"--arch {shown_spec.arch}", f"--width {shown_spec.width:g}"]
            options += [f"--stem {shown_spec.stem}"]
            return (
                "Name the architecture that the file holds: "
                f"{' '.join(options)}, of a teacher {' '.join(options).replace('--', '--teacher-')}"
            )
        return (
            f"Its tensors are a {used.arch}'s, of width {used.width:g}, with others or not all: "
            "save that network's state_dict() alone, and whole"
        )
    for spec in _family_specs(path, content):
        if used is None or spec.arch != used.arch:
            arch = spec.arch
            return (
                f"Name the architecture that the file holds: --arch {arch}, of a teacher "
                f"--teacher-arch {arch}"
            )
        return (
            f"Its tensors are those of {used.arch}, with others or not all: save that network's "
            "state_dict() alone, and whole"
        )
    return "Name the architecture that the file holds: --arch or --teacher-arch"


def _family_specs(path: Path, content: Mapping[str, Any]) -> Iterator[BackboneSpec]:
    """Networks that families see in a file."""
    for place in find_places(content, FAMILY_ANCHORS):
        state = read_place(content, place)
        family = recognize(state)
        if family:
            with suppress(ValueError):
                yield know(family, state, None, path).spec
