"""Whether a checkpoint is of the same run as the one that would go on from it."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from mgd_ssl import distributed
from mgd_ssl.data import data_digest
from mgd_ssl.models import find_checkpoint
from mgd_ssl.models.provenance import sha256_of
from mgd_ssl.models.weights import files_of
from mgd_ssl.settings.config_file import COMMAND, command_of, mapped, paths
from mgd_ssl.settings.options import flat, to_dict
from mgd_ssl.settings.parsing import defaults_of
from mgd_ssl.settings.run import RunConfig
from mgd_ssl.tasks.task import Task
from mgd_ssl.training.training_data import TrainingData

Config = TypeVar("Config", bound=RunConfig)
# What may differ between a run and its resumption. Another device or memory layout rounds
# otherwise; another number of processes draws other colors, and its batch norms see other shares of
# a batch. Nothing else here changes the weights. Where images and weights lie is no matter: digests
# say whether they are the same.
FREE_TO_CHANGE = {"data", "out", "resume", "overwrite", "dry_run", "print_freq", "save_every"}
FREE_TO_CHANGE |= {"device", "evaluation", "workers", "bad_images", "logger"}
FREE_TO_CHANGE |= {"teacher.teacher", "student_weights", "backbone_weights"}
FREE_TO_CHANGE |= {"teacher_cache", "cache_views"}
BOUND = {"device.precision"}  # for all that its section is free
MOST_NAMED = 6  # options that differ, in a message
COMMANDS = {
    "pretrain": "pretrain.py",
    "classify": "mgd-ssl classify",
    "detect": "mgd-ssl detect",
}


def refuse_own_sources(config: RunConfig) -> None:
    """Refuse to delete, as the run that the directory holds, what the new one is to read.

    Raises:
        ValueError: names the option.
    """
    out = config.out.resolve()
    for name, path in paths(config):
        place = path.resolve()
        if name != "out" and out in (place, *place.parents):
            raise ValueError(
                f"overwrite: {config.out} holds {path}, which {name} names and which would be "
                "deleted; name another directory with --out"
            )


def located(config: Config) -> Config:
    """The settings, with the last checkpoint of a run in place of its directory."""
    weights = ("teacher", "student_weights", "backbone_weights")

    def locate(name: str, value: Any) -> Any:
        return find_checkpoint(value) if name in weights and isinstance(value, Path) else value

    return mapped(config, locate)


def check_same_run(
    config: RunConfig,
    content: Mapping[str, Any],
    sources: Mapping[str, Any],
    steps_per_epoch: int,
    path: Path,
) -> None:
    """Refuse to go on with other settings, images or weights than the checkpoint's.

    Args:
        config: of the run that would go on.
        content: of the checkpoint.
        sources: what the run that would go on is made from: "data", "teacher" and "start", the
            digests of its training images, its teacher and the file that its student starts from;
            and "images", how many. An entry that the checkpoint lacks is not compared.
        steps_per_epoch: of the run that would go on; not compared if the batch is another.
        path: where the checkpoint's settings stand.

    Raises:
        ValueError: names what differs, of options the first six, with the value in the checkpoint
            and now.
    """
    _check_command(config, content["config"])
    _check_teacher(content, sources)
    changed = dict(changed_options(config, content["config"]))
    steps = {} if "--batch-size" in changed else {"steps_per_epoch": steps_per_epoch}
    others = _changed_sources(content, {**sources, **steps})
    if list(changed) == ["--epochs"] and not others:
        _refuse_epochs(*changed["--epochs"])
    differ = [f"{k}: {was} in the checkpoint, {now} now" for k, (was, now) in changed.items()]
    if differ or others:
        more = [f"and {len(differ) - MOST_NAMED} more options"] if len(differ) > MOST_NAMED else []
        said = "; ".join([*differ[:MOST_NAMED], *more, *others])
        raise ValueError(
            f"resume: the settings differ from the run's: {said}; give the same as {path}, or "
            "start anew in another --out"
        )


def _check_command(config: RunConfig, before: Mapping[str, Any]) -> None:
    own = command_of(type(config))
    ours, theirs = COMMANDS[own], COMMANDS.get(before.get(COMMAND, own), "another command")
    if ours != theirs:
        raise ValueError(
            f"resume: got a run of {theirs}, expected one of {ours}; go on with the command that "
            "began it, or name another --out"
        )


def _check_teacher(content: Mapping[str, Any], sources: Mapping[str, Any]) -> None:
    """Refuse a forgotten teacher as such, and not by all the settings that follow from it."""
    if content.get("teacher") and "teacher" in sources and not sources["teacher"]:
        before = content["config"].get("teacher")
        named = before.get("teacher") if isinstance(before, Mapping) else None
        raise ValueError(
            f"resume: the run has a teacher and none is given now, expected the same: --teacher "
            f"{named or 'FILE'}"
        )


def _refuse_epochs(before: Any, now: Any) -> None:
    raise ValueError(
        f"resume: --epochs: {before} in the checkpoint, {now} now, and all other settings are the "
        "same; the learning rate and the matching follow schedules that end with the last epoch, "
        f"so a run of {now} epochs takes other steps from the first on. Finish this run with "
        f"--epochs {before}, or start one of {now} in another --out"
    )


def changed_options(
    config: RunConfig, content: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Each option that differs, as the command line spells it: its value before and now.

    An option that the checkpoint's version did not have stood at its default.
    """
    before, defaults = dict(flat(content)), dict(flat(to_dict(defaults_of(config))))
    for name, now in flat(to_dict(config)):
        was = before.get(name, defaults[name])
        if was != now and not _is_free(name):
            said = (_said(name, was), _said(name, now))
            yield "--" + name.rpartition(".")[2].replace("_", "-"), said


def _is_free(name: str) -> bool:
    section, _, option = name.rpartition(".")
    return name not in BOUND and bool({name, section, option} & FREE_TO_CHANGE)


def _said(name: str, value: Any) -> str:
    """A value as the command line takes it; a rate of 0 is one that the run found."""
    if name == "optim.lr" and value == 0:
        return "found by the run"
    if value is None or value == []:
        return "not given"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value)


def _changed_sources(content: Mapping[str, Any], sources: Mapping[str, Any]) -> list[str]:
    """What else the run was made from that differs, of what both say."""

    def differs(name: str) -> bool:
        return name in content and name in sources and content[name] != sources[name]

    changed = ["the teacher's weights are others"] if differs("teacher") else []
    if differs("cache"):
        changed.append(_of_caches(content["cache"], sources["cache"]))
    if differs("start"):
        changed.append("the weights that the student starts from are others")
    if differs("images"):
        changed.append(
            f"DATA: {content['images']} images in the checkpoint, {sources['images']} now"
        )
    elif differs("data"):
        changed.append(
            f"DATA: {sources['images']} training images as in the checkpoint, but of other names, "
            "sizes or boxes"
        )
    elif differs("steps_per_epoch"):
        changed.append(
            f"{content['steps_per_epoch']} steps an epoch in the checkpoint, "
            f"{sources['steps_per_epoch']} now"
        )
    return changed


def _of_caches(before: str | None, now: str | None) -> str:
    """In what two caches differ, or that there is one in one of the two alone."""
    if not (before and now):
        return f"there is {'a' if before else 'no'} teacher cache in the checkpoint alone"
    (was, views), (new, seen) = (place.split(", ") for place in (before, now))
    if was == new:
        return f"--cache-views: {views.split()[0]} in the checkpoint, {seen.split()[0]} now"
    return "the teacher cache is another"


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of a state dict's names and values."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def start_digest(config: RunConfig) -> str | None:
    """What the student starts from: a file's SHA-256, or a name; None where it is new.

    Of a file in shards it is the SHA-256 of their digests, one after another.
    """
    given = (getattr(config, name, None) for name in ("student_weights", "backbone_weights"))
    start = next((path for path in given if path is not None), None)
    if start is None or not start.is_file():
        return start and str(start)
    digests = list(sha256_of(*files_of(start)).values())
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def identify(config: RunConfig, task: Task, data: TrainingData) -> dict[str, Any]:
    """What a run is made from, wherever it lies; see `check_same_run`. Every rank calls it."""
    teacher, source = task.teacher, data.source
    return {
        "teacher": weights_digest(teacher.network.state_dict()) if teacher else None,
        "cache": data.answers,
        "start": start_digest(config),
        "images": len(source),
        "data": distributed.from_first(lambda: data_digest(source)),
    }
