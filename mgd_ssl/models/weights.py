"""Where weights come from: files, of which nothing is executed, and libraries' names."""

import argparse
import contextlib
import difflib
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from mgd_ssl.models import timm_networks, torchvision_networks
from mgd_ssl.models.file_kinds import is_safetensors, what_else
from mgd_ssl.models.sharded import is_index, joined, shards_of
from mgd_ssl.models.timm_networks import timm_name
from mgd_ssl.models.torchvision_networks import CLASSIFIERS, other_task

# What a directory means: a run's last checkpoint, or a network as Hugging Face saves it.
ENDINGS = {".pt", ".pth", ".tar", ".safetensors", ".ckpt", ".bin"}  # of checkpoints
CHECKPOINTS = (
    "checkpoints/last.pt",
    "last.pt",
    "model.safetensors",
    "model.safetensors.index.json",
)
Checkpoint = tuple[dict[str, Any], dict[str, str]]


def read_weights(source: Path) -> Checkpoint:
    """Read a file, a run's last checkpoint, or weights that a library publishes under a name.

    Names are torchvision's (``resnet50``, whose first weights are meant, or ``resnet50:NAME`` for
    others) and timm's (``timm/resnet50.a1_in1k``); they are downloaded once, by the library.

    Raises:
        ValueError: neither a file nor a name, or what `read_checkpoint` refuses, or the weights
            cannot be downloaded.
    """
    name, file = str(source), find_checkpoint(source)
    if file.is_file() or not _is_name(name):
        return read_checkpoint(file)
    try:
        return (timm_networks if _is_timm(name) else torchvision_networks).published(name), {}
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"weights: {name!r} could not be downloaded: {error}; expected a network, or the "
            "weights in the library's cache; download them elsewhere and give the file's path"
        ) from error


def find_checkpoint(source: Path, data: Sequence[Path] | None = None) -> Path:
    """The file that a path means: a directory stands for the checkpoint in it.

    Args:
        source: the path.
        data: what a command line names after it, with which the user may have swapped it; None
            where the path is an option's.

    Raises:
        ValueError: a directory without one.
    """
    if not source.is_dir():
        return source
    for name in CHECKPOINTS:
        if (source / name).is_file():
            return source / name
    if _is_name(str(source)):  # a folder that is called as published weights are
        return source
    raise ValueError(
        f"checkpoint: got {source}, a directory without {CHECKPOINTS[0]}; expected a checkpoint's "
        f"path, the directory of a run, or one with {CHECKPOINTS[2]}{_order(data)}"
    )


def _order(data: Sequence[Path] | None) -> str:
    """What a command line names first, and whether the user seems to have swapped both."""
    if data is None:
        return ""
    swapped = any(
        (place.is_file() and place.suffix in ENDINGS)
        or any((place / name).is_file() for name in CHECKPOINTS)
        for place in data
    )
    asked = " Did you swap CHECKPOINT and DATA?" if swapped else ""
    return f". CHECKPOINT comes first, then DATA.{asked}"


def files_of(path: Path) -> list[Path]:
    """The files whose bytes a checkpoint's weights are; none of published weights."""
    if not path.is_file():
        return []
    return [path, *shards_of(path)] if is_index(path) else [path]


def _is_name(name: str) -> bool:
    return _is_timm(name) or name.partition(":")[0] in CLASSIFIERS


def _is_timm(name: str) -> bool:
    return name.startswith("timm/") or timm_name(name) != name  # MobileNet v1 is timm's alone


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read a file of tensors: (its content, safetensors' metadata); nothing in it is executed.

    Raises:
        ValueError: the file is missing, truncated, or holds pickled objects.
    """
    if not path.is_file():
        raise ValueError(f"checkpoint: {_no_file(path)}")
    if is_index(path):  # whose shards are no indexes again, which could go on for ever
        return joined(path, {shard: _read_file(shard)[0] for shard in shards_of(path)}), {}
    return _read_file(path)


def _read_file(path: Path) -> Checkpoint:
    try:
        if is_safetensors(path):
            with _utf8(path) as name, safe_open(name, framework="pt") as file:
                return {k: file.get_tensor(k) for k in file.keys()}, file.metadata() or {}  # noqa: SIM118
        content = _load(path)
    except Exception as error:  # a damaged pickle can end in any of them, IndexError too
        raise ValueError(_unreadable(path, str(error))) from error
    if not isinstance(content, Mapping):
        raise ValueError(
            f"checkpoint: {path} holds a {type(content).__name__}, expected a dict of tensors; "
            "save network.state_dict() instead"
        )
    return dict(content), {}


def _no_file(path: Path) -> str:
    if other_task(str(path)):
        return other_task(str(path))
    near = ", ".join(difflib.get_close_matches(str(path), CLASSIFIERS, n=3))
    return (
        f"got {path}, which is no file; expected a checkpoint's path, or a name such as "
        f"{near or 'resnet50'} or timm/resnet50.a1_in1k"
    )


def _load(path: Path) -> Any:
    """A file's content on the CPU: tensors, plain values and argparse's namespaces."""
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of formats, which the refusal names
        with path.open("rb") as file:  # torch would go by the name of a path
            return torch.load(file, map_location="cpu", weights_only=True)


@contextlib.contextmanager
def _utf8(path: Path) -> Iterator[Path]:
    """A path that safetensors takes: where a name is not UTF-8, a link to it for the while."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder) / "weights.safetensors"
            link.symlink_to(path.absolute())
            yield link
    else:
        yield path


def _unreadable(path: Path, reason: str) -> str:
    found = re.search(r"GLOBAL ([^\s:]+\.[^\s:]+) ", reason)  # other bytes may seem to be one
    if found:
        return (
            f"checkpoint: {path} holds a pickled {found.group(1)}, expected tensors only; loading "
            "it could run code. Save its state_dict() alone and give that file"
        )
    if "TorchScript" in reason:
        return (
            f"checkpoint: {path} holds a TorchScript program, expected tensors only; running it "
            "could do anything. Save the state_dict() of the network that it was made from"
        )
    kind = what_else(path)
    if kind:
        return f"checkpoint: {path} {kind}; expected a torch or safetensors file"
    return (
        f"checkpoint: {path} is no checkpoint that can be read ({reason.partition('. ')[0]}), or "
        "it is truncated; expected a torch or safetensors file; copy or download it again"
    )
