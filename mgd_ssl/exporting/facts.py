"""What a run's files say of the network that it trained, for its model card."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mgd_ssl.models import read_checkpoint
from mgd_ssl.reporting.reading import plain, setting
from mgd_ssl.reporting.results import Result, public_name, read_results
from mgd_ssl.reporting.runs import Run, read_run

# Settings of a run that a card names, and what it calls them.
RECIPE = {
    "method": "method",
    "optim.epochs": "epochs",
    "optim.batch_size": "batch size",
    "optim.optimizer": "optimizer",
    "optim.lr": "learning rate",
    "optim.weight_decay": "weight decay",
    "mgd.mgd_weighing": "weighing of the matching",
    "mgd.mgd_strength": "strength of the matching",
    "mgd.mgd_reducer": "reducer of the matching",
    "loader.size": "image side in training",
    "loader.limit": "images used",
    "seed": "seed",
}
SAME = {"last.pt", "student.safetensors"}  # of one run: the same weights


@dataclass(frozen=True)
class TrainingFacts:
    """What is known of the training; empty where nothing is.

    Attributes:
        recipe: name of a setting, in words -> its value.
        data: places of the images, without their folders: a card is made to be published.
        results: of the evaluators, for the network and for its teacher.
        teacher: name of the teacher's file by the settings; "none" where there was none, and empty
            where nothing is known.
    """

    recipe: Mapping[str, Any] = field(default_factory=dict)
    data: Sequence[str] = ()
    results: Sequence[Result] = ()
    teacher: str = ""


def training_facts(checkpoint: Path) -> TrainingFacts:
    """What a checkpoint of a run, and the run's directory, say.

    Args:
        checkpoint: the file; one that is of no run has no facts.
    """
    run = _run_of(checkpoint)
    config, epoch = _config_in(checkpoint)
    config = config or (run.config if run else {})
    if not config:
        return TrainingFacts()
    recipe = dict(_recipe(config, run))
    if epoch is not None and epoch < _epochs(config):
        recipe["epochs"] = f"{epoch} of {_epochs(config)}"
    teacher = setting(config, "teacher.teacher")
    return TrainingFacts(
        recipe,
        list(_data(config)),
        _results(run, checkpoint) if run else (),
        Path(str(teacher)).name if teacher else "none",
    )


def _run_of(checkpoint: Path) -> Run | None:
    inside = checkpoint.parent.name == "checkpoints"
    try:
        return read_run(checkpoint.parent.parent if inside else checkpoint.parent)
    except (ValueError, OSError):  # another project's file
        return None


def _config_in(checkpoint: Path) -> tuple[Mapping[str, Any], int | None]:
    """The settings that a checkpoint of a run carries, and its finished epochs."""
    try:
        content = read_checkpoint(checkpoint)[0]
        config, epoch = plain(content.get("config")), content.get("epoch")
    except ValueError:  # a published name, or a pickle of NumPy arrays
        return {}, None
    known = isinstance(config, Mapping) and "command" in config
    return (config, epoch if isinstance(epoch, int) else None) if known else ({}, None)


def _epochs(config: Mapping[str, Any]) -> int:
    """Epochs of the whole run; classify counts its warm-up separately."""
    warmup = setting(config, "optim.warmup_epochs") if config["command"] == "classify" else 0
    found = (setting(config, "optim.epochs"), warmup)
    return sum(value for value in found if isinstance(value, int))


def _recipe(config: Mapping[str, Any], run: Run | None) -> Iterator[tuple[str, Any]]:
    run = run or Run(Path(), config, [])  # without its directory nothing that it found is known
    yield "command", f"mgd-ssl {config['command']}"
    unused = {"loader.size"} if config["command"] == "detect" else set()
    for name, words in RECIPE.items():
        value = None if name in unused else run.in_words(name, setting(config, name))
        if value is not None and not (name.startswith("mgd.") and not _is_matched(config)):
            yield words, value


def _is_matched(config: Mapping[str, Any]) -> bool:
    return (
        bool(setting(config, "teacher.teacher")) and setting(config, "mgd.mgd_weighing") != "none"
    )


def _data(config: Mapping[str, Any]) -> Iterator[str]:
    places = config.get("data") or []
    for place in places if isinstance(places, list) else [places]:
        yield public_name(str(place))
    if not places:
        yield "embedded sample of Fashion-MNIST"


def _results(run: Run, checkpoint: Path) -> list[Result]:
    """Of this file, or of another with the same weights, and of its teacher."""
    names = SAME if checkpoint.name in SAME else {checkpoint.name}
    found, _ = read_results(run)
    return [r for r in found if r.network == "teacher" or r.checkpoint in names]
