"""The directory of a run that names none: a new one, or with ``--resume`` the one to go on with."""

from dataclasses import replace
from itertools import count, takewhile
from pathlib import Path
from typing import TypeVar

import yaml

from mgd_ssl import distributed
from mgd_ssl.settings.config_file import COMMAND, command_of
from mgd_ssl.settings.run import RunConfig, UnnamedDirectory
from mgd_ssl.training.logging import logger
from mgd_ssl.training.run_directory import free
from mgd_ssl.training.run_files import CONFIG, LOCK, holds_settings, is_run
from mgd_ssl.training.same_run import changed_options

Config = TypeVar("Config", bound=RunConfig)
FOUND = {"--batch-size", "--moco-k"}  # from the images if 0, and written as they were found


ENDINGS = (".pt", ".pth", ".safetensors")


def refuse_resumed_path(config: RunConfig) -> None:
    """Refuse a run or its checkpoint after ``--resume``, where it is read as DATA.

    Raises:
        ValueError: names ``--out`` with the run.
    """
    for place in config.data if config.resume else ():
        inside = (place, *place.parents[:2]) if place.suffix in ENDINGS else (place,)
        run = next((folder for folder in inside if is_run(folder)), None)
        if run or place.suffix in ENDINGS:
            raise ValueError(
                f"resume: got {place} after --resume, which takes no path, so that it was taken "
                f"for DATA; expected the run's directory in --out: --resume --out {run or 'DIR'}"
            )


def with_directory(config: Config) -> Config:
    """The settings with the run's directory, which the first process chooses for all.

    A directory that was named is kept. Otherwise it is runs/NAME or, where that is taken, the first
    of runs/NAME-2, runs/NAME-3, … that is free. With ``--resume`` it is the last of these whose run
    has the same settings or, if none has, the last, which is then refused by what differs.
    """
    if not isinstance(config.out, UnnamedDirectory) or config.overwrite:
        return config
    return replace(config, out=distributed.from_first(lambda: _chosen(config)))


def _chosen(config: RunConfig) -> Path:
    first = Path(config.out)
    if config.resume:
        runs = _numbered(first)
        found = next((run for run in reversed(runs) if _fits(config, run)), None)
        if found is None:
            return _unfit(runs) if runs else first
        if found != first:
            logger.info("the run to go on with is %s; --out names another", found)
        return found
    if not _is_taken(first):
        return first
    found = free(first)
    logger.info("%s is taken; this run is %s", first, found)
    return found


def _unfit(runs: list[Path]) -> Path:
    """The last run, where none has the settings; resuming it says what differs."""
    names = ", ".join(map(str, runs))
    logger.info(
        "no run has these settings, of %s; the last is compared; --out names another", names
    )
    return runs[-1]


def _is_taken(path: Path) -> bool:
    return path.exists() and not (path.is_dir() and all(p.name == LOCK for p in path.iterdir()))


def _numbered(first: Path) -> list[Path]:
    """The runs among NAME and NAME-2, NAME-3, …, up to the first that does not exist."""
    others = (first.with_name(f"{first.name}-{number}") for number in count(2))
    places = [first, *takewhile(Path.exists, others)]
    return [place for place in places if holds_settings(place / CONFIG)]


def _fits(config: RunConfig, run: Path) -> bool:
    """Whether a run's own settings are those of a run that would go on with it."""
    content = yaml.safe_load((run / CONFIG).read_bytes())
    own = command_of(type(config))
    changed = dict(changed_options(config, content))
    others = [name for name, (_, now) in changed.items() if name not in FOUND or now != "0"]
    return content.get(COMMAND, own) == own and not others
