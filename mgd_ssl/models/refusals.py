"""What is said where a file holds no network that can be read, or another one."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from mgd_ssl.models.backbones import backbone_shapes
from mgd_ssl.models.families import ANCHORS as FAMILY_ANCHORS
from mgd_ssl.models.families import know, recognize
from mgd_ssl.models.file_entries import FileEntries, shown
from mgd_ssl.models.guessing import ANCHORS, guess_spec
from mgd_ssl.models.known_networks import COUNT, names_of
from mgd_ssl.models.layouts import find_places, full_places, read_place, state_dicts
from mgd_ssl.models.other_files import what_instead
from mgd_ssl.models.specs import BackboneSpec
from mgd_ssl.models.torchvision_networks import CLASSIFIERS

NEARLY_ALL = 0.9  # share of a network's entries from which a file is taken to hold it


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
    """What helps where a network does not fit a file: the options that name the file's, if known.

    Args:
        path: of the file.
        content: of the file.
        used: the network that does not fit.
    """
    for place in find_places(content, ANCHORS):
        try:
            held = guess_spec(path, read_place(content, place), None)
        except ValueError:
            continue
        if used is None or not _alike(held, used):
            options = f"--arch {held.arch} --width {held.width:g} --stem {held.stem}"
            return _naming(options)
        return _whole(f"a {used.arch}'s, of width {used.width:g}")
    for spec in _family_specs(path, content):
        if used is None or spec.arch != used.arch:
            return _naming(f"--arch {spec.arch}")
        return _whole(f"those of {used.arch}")
    return _advice_on_libraries(content, used)


def _alike(held: BackboneSpec, used: BackboneSpec) -> bool:
    """Whether two networks have the same entries, as torchvision's and timm's ResNet-50 have."""
    with suppress(ValueError):  # of a width that no network has
        return backbone_shapes(held) == backbone_shapes(used)
    return False


def _naming(options: str) -> str:
    return (
        f"Name the architecture that the file holds: {options}, of a teacher "
        f"{options.replace('--', '--teacher-')}"
    )


def _whole(whose: str) -> str:
    return (
        f"Its tensors are {whose}, with others or not all: save that network's state_dict() "
        "alone, and whole"
    )


def _advice_on_libraries(content: Mapping[str, Any], used: BackboneSpec | None) -> str:
    """Advice on a network that is known by the names and shapes of all its entries, or not at all.

    A file with nearly all entries of the network used holds that network. Naming it again would
    not help.
    """
    names = list(dict.fromkeys(name for n in _names(content) for name in n))
    if names and not (used and _full_name(used.arch) in names):
        return _naming(f"--arch {' or '.join(names)}")
    if used is None:
        return "Name the architecture that the file holds: --arch or --teacher-arch"
    if _share(content, used) >= NEARLY_ALL:
        return _whole(f"those of {used.arch}")
    return (
        f"Name the architecture that the file holds, if it is not {used.arch}: --arch or "
        "--teacher-arch. If it is, save that network's state_dict() alone, and whole"
    )


def _names(content: Mapping[str, Any]) -> Iterator[list[str]]:
    """Names of the libraries' networks that a file holds whole."""
    for place in full_places(content):
        yield names_of(_shapes(read_place(content, place)))


def _full_name(arch: str) -> str:
    """A name as the index of the libraries' networks has it."""
    return arch if arch in CLASSIFIERS or arch.startswith("timm/") else f"timm/{arch}"


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(v.shape) for key, v in state.items() if isinstance(v, Tensor)}


def _share(content: Mapping[str, Any], spec: BackboneSpec) -> float:
    """The largest share of a network's entries that one place of a file holds, by key and shape."""
    wanted = {k: tuple(v) for k, v in backbone_shapes(spec).items() if not k.endswith(COUNT)}
    counts = [0]
    for place in find_places(content, wanted):
        shapes = _shapes(read_place(content, place))
        counts.append(sum(shapes.get(key) == shape for key, shape in wanted.items()))
    return max(counts) / max(len(wanted), 1)


def _family_specs(path: Path, content: Mapping[str, Any]) -> Iterator[BackboneSpec]:
    """Networks that families see in a file."""
    for place in find_places(content, FAMILY_ANCHORS):
        state = read_place(content, place)
        family = recognize(state)
        if family:
            with suppress(ValueError):
                yield know(family, state, None, path).spec
