"""Put what a run's checkpoint holds back into its parts: whole, or refused by name."""

import math
from collections.abc import Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mgd_ssl.models import check_values
from mgd_ssl.training.average import UNAVERAGED

REMEDY = (
    "the file was changed, or is of another version; start anew with --overwrite or in another "
    "--out, or put back the run's own checkpoint"
)
MAPPING = "a mapping"
# What `--resume` reads of a checkpoint, and what each of it must be.
SECTIONS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "config": (Mapping, MAPPING),
    "distiller": ((Mapping, type(None)), "a mapping, or nothing"),
    "optimizer": (Mapping, MAPPING),
    "precision": (Mapping, MAPPING),
    "progress": (Mapping, MAPPING),
    "state_dict": (Mapping, MAPPING),
    "steps_per_epoch": (int, "a whole number"),
    "teacher": ((str, type(None)), "a digest, or nothing"),
}


def check_sections(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that lacks what `--resume` reads, or holds something else there.

    Raises:
        ValueError: names the file, the entry, what it holds and what was expected.
    """
    for entry, (kind, expected) in SECTIONS.items():
        if entry not in content:
            raise ValueError(
                f"resume: {path} has no entry {entry!r}, expected {expected}; {REMEDY}"
            )
        _require(path, entry, content[entry], kind, expected)
    progress = content["progress"]
    for entry in ("epoch", "step"):
        found = progress.get(entry)
        ordinal = isinstance(found, int) and not isinstance(found, bool) and found >= 0
        if not ordinal:
            _refuse(path, f"progress.{entry}", found, "a whole number of 0 or more")
    _check_summed(path, progress.get("summed", {"count": 0, "losses": {}}))
    best = progress.get("best")
    if not isinstance(best, Real) or isinstance(best, bool) or best != best:
        _refuse(path, "progress.best", best, "a number")


def _check_summed(path: Path, summed: Any) -> None:
    """The losses of the epoch's steps so far, by name."""
    whole = isinstance(summed, Mapping) and summed.keys() == {"count", "losses"}
    if not whole or not isinstance(summed["count"], int) or summed["count"] < 0:
        _refuse(path, "progress.summed", summed, "count, of 0 or more, and losses")
    _require(path, "progress.summed.losses", summed["losses"], Mapping, MAPPING)
    for name, value in summed["losses"].items():
        if not isinstance(value, float) or not math.isfinite(value):
            _refuse(path, f"progress.summed.losses.{name}", value, "a finite number")


def check_average(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse a checkpoint without the student's own values beside their average.

    Raises:
        ValueError: names the entry.
    """
    own: Any = content.get(UNAVERAGED)
    _require(path, UNAVERAGED, own, Mapping, MAPPING)
    _require(path, f"{UNAVERAGED}.steps", own.get("steps"), int, "a whole number")
    _require(path, f"{UNAVERAGED}.student", own.get("student"), Mapping, MAPPING)


def _require(path: Path, entry: str, value: Any, kind: Any, expected: str) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        _refuse(path, entry, value, expected)


def _refuse(path: Path, entry: str, value: Any, expected: str) -> None:
    got = "nothing" if value is None else f"{str(value)[:60]!r} ({type(value).__name__})"
    raise ValueError(f"resume: {path}, {entry}: got {got}, expected {expected}; {REMEDY}")


def restore_module(module: nn.Module, state: Mapping[str, Any], path: Path, entry: str) -> None:
    """Load a part of a run.

    Args:
        module: what is loaded.
        state: all its entries, and no others.
        path: the checkpoint, and ``entry`` of it, for messages.
        entry: see ``path``.

    Raises:
        ValueError: an entry is missing, too many, of another shape or kind, or holds no numbers.
    """
    own = module.state_dict()
    wrong = [f"{key}: {why}" for key, why in _differences(own, state)]
    if wrong:
        raise ValueError(
            f"resume: {path}, {entry}: {len(wrong)} entries are not those of this run, "
            f"{'; '.join(wrong[:3])}; {REMEDY}"
        )
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)}
    check_values(path, tensors)
    module.load_state_dict(dict(state))


def _differences(own: Mapping[str, Any], state: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in own.items():
        got, expected = _kind(state.get(key)), _kind(value)
        if got != expected:
            yield key, f"got {got}, expected {expected}"
    yield from ((str(key), "unknown") for key in state if key not in own)


def _kind(value: Any) -> str:
    """What an entry is: a tensor's shape and type, the names and kinds in what stands beside."""
    if isinstance(value, Tensor):
        layout = "" if value.layout == torch.strided else f" {value.layout}"
        return f"{tuple(value.shape)} {value.dtype}{layout}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_kind(v)}" for k, v in sorted(value.items())) + "}"
    if isinstance(value, list):
        return f"list of {len(value)}"
    return "nothing" if value is None else type(value).__name__


def check_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any], path: Path) -> None:
    """Refuse an optimizer's state that is not of the parameters that it would go on with.

    Raises:
        ValueError: other groups, numbers or shapes of parameters, or values that are no numbers.
    """
    groups, saved = state.get("param_groups"), state.get("state")
    if not isinstance(groups, list) or not isinstance(saved, Mapping):
        _refuse(path, "optimizer", sorted(map(str, state)), "its state and param_groups")
    counts = [len(group["params"]) for group in optimizer.param_groups]
    found = [_count(group) for group in groups]  # type: ignore[union-attr]
    if found != counts:
        _refuse(path, "optimizer.param_groups", found, f"groups of {counts} parameters")
    places = [p for group in groups for p in group["params"]]  # type: ignore[union-attr]
    ours = [p for group in optimizer.param_groups for p in group["params"]]
    for place, parameter in zip(places, ours, strict=True):
        _check_moments(path, place, saved.get(place, {}), parameter)  # type: ignore[union-attr]


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load a state that `check_optimizer` found to fit, its moments laid out as their weights.

    Fused updates on the CPU walk weights and moments in the order in which they lie in memory. A
    run may be resumed with another layout (``--channels-last``) than it was saved with.
    """
    optimizer.load_state_dict(dict(state))
    for weight, moments in optimizer.state.items():
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                moments[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _count(group: Any) -> int | None:
    """Parameters of a group; None where it is none."""
    whole = isinstance(group, Mapping) and {"params", "lr"} <= group.keys()
    return len(group["params"]) if whole and isinstance(group["params"], list) else None


def _check_moments(path: Path, place: Any, moments: Any, parameter: Tensor) -> None:
    entry = f"optimizer.state.{place}"
    _require(path, entry, moments, Mapping, MAPPING)
    tensors = {f"{entry}.{k}": v for k, v in moments.items() if isinstance(v, Tensor) and v.ndim}
    for name, value in tensors.items():
        if value.shape != parameter.shape or value.layout != torch.strided:
            shape = tuple(parameter.shape)
            _refuse(path, name, tuple(value.shape), f"the parameter's shape {shape}")
    check_values(path, tensors)
