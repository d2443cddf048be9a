"""The directory of a run: taken, locked, refused, given back."""

import errno
import fcntl
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO, Any
from weakref import WeakSet

import yaml

from mgd_ssl import distributed
from mgd_ssl.files import write_text
from mgd_ssl.settings.run import RunConfig
from mgd_ssl.training.checkpoint import last_of
from mgd_ssl.training.logging import logger, start_logging
from mgd_ssl.training.run_files import (
    CONFIG,
    FOLDERS,
    LOCK,
    LOG,
    foreign_entries,
    holds_settings,
    is_run,
    temporaries,
    written,
)

TRIES = 3  # to lock a file that others delete
HELD: WeakSet[IO[str]] = WeakSet()  # locks of this process


def _release_in_child() -> None:
    """Let go of locks in a new process: decoders outlive a killed run by seconds."""
    for lock in HELD:
        lock.close()


os.register_at_fork(after_in_child=_release_in_child)


class RunDirectory:
    """``runs/NAME/``: refused when it holds a run, locked while it is in use.

    Attributes:
        path: the directory.
        checkpoints: its folder of checkpoints.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._lock: IO[str] | None = None
        self._made: list[Path] = []
        self._fresh = self._replaces = False

    def open(self, *, resume: bool, overwrite: bool) -> None:
        """Take the directory for a run; what a killed save left in it goes, and nothing else yet.

        Raises:
            ValueError: it is in use, or it holds something and neither flag is given, or
                ``overwrite`` would delete what no run wrote, or it cannot be written to.
        """
        try:
            self._open(resume, overwrite)
        except OSError as error:
            self.abandon()
            raise ValueError(
                f"out: {self.path} cannot be written to: {error}; name another directory with --out"
            ) from error
        except ValueError:
            self.abandon()
            raise

    def look(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse before anything is loaded what `open` would refuse after it; take nothing."""
        self.open(resume=resume, overwrite=overwrite)
        self.abandon()

    def _open(self, resume: bool, overwrite: bool) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"out: {self.path} is a file, expected a directory")
        held = self.path.is_dir() and any(p.name != LOCK for p in self.path.iterdir())
        if held and not (resume or overwrite):
            self._require_begun()
            other = shlex.quote(str(free(self.path)))
            raise ValueError(
                f"out: {self.path} is not empty, expected a new directory; go on with --resume, "
                f"start anew with --overwrite, or name another with --out {other}"
            )
        if (self.path / LOCK).exists():  # a run at work is told before anything else
            self._acquire()
        delete = held and overwrite and not resume
        if delete:
            self._require_deletable()
        elif held:
            self._require_resumable()
        self._made = [path for path in (self.path, *self.path.parents) if not path.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        self._acquire()
        self._fresh = not held
        self._replaces = delete
        for path in temporaries(self.path):
            path.unlink()

    def _acquire(self) -> None:
        """Lock the file LOCK; anew where another run that gave the directory back deleted it."""
        for _ in range(TRIES):
            if self._lock and self._is_there(self._lock):
                return
            self.close()
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            self._lock = os.fdopen(os.open(self.path / LOCK, flags, 0o666), "r+")
            HELD.add(self._lock)
            self._take(self._lock)

    def _is_there(self, lock: IO[str]) -> bool:
        """Whether the file that is locked still lies in the directory."""
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(lock.fileno()), (self.path / LOCK).lstat())
        return False

    def _take(self, lock: IO[str]) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                logger.warning(
                    "%s has no locks (%s): make sure that no other run uses it", self.path, error
                )
                return
            raise ValueError(
                f"out: {self.path} is in use by another run; wait for it, stop it, or name another "
                "directory with --out"
            ) from error

    @property
    def _begun(self) -> bool:
        return is_run(self.path) or last_of(self.checkpoints).is_file()

    def _require_begun(self) -> None:
        """Refuse a directory of something else without advice that would not help."""
        foreign = foreign_entries(self.path)
        if foreign and not self._begun:
            raise ValueError(
                f"out: {self.path} is not empty, expected a new directory; it holds "
                f"{_named(foreign)} and no run: name another with --out"
            )

    def _require_deletable(self) -> None:
        """Refuse to delete what no run wrote."""
        foreign = foreign_entries(self.path)
        if not is_run(self.path):
            what = "another project's" if (self.path / CONFIG).exists() else "no"
            raise ValueError(
                f"out: {self.path} holds {what} {CONFIG}, so it is no run and is not deleted; name "
                "another directory with --out"
            )
        if foreign:
            raise ValueError(
                f"out: {self.path} holds {_named(foreign)}, which no run writes, so nothing is "
                "deleted; move that away, or name another directory with --out"
            )

    def _require_resumable(self) -> None:
        """Refuse to write among, or over, what no run wrote."""
        foreign, config = foreign_entries(self.path), self.path / CONFIG
        if self._begun and config.exists() and not holds_settings(config):
            raise ValueError(
                f"out: {config} holds no settings of a run, expected those that the run wrote; "
                "move it away, and --resume writes it anew"
            )
        if (foreign and not self._begun) or (config.exists() and not holds_settings(config)):
            raise ValueError(
                f"out: {self.path} holds {_named(foreign or [CONFIG])} and no run to go on with; "
                "name another directory with --out"
            )

    def _clear(self) -> None:
        """Delete the run, its settings last: until then it is known as one."""
        for path in written(self.path):
            path.unlink()
        for folder in FOLDERS:
            if (self.path / folder).is_dir():
                (self.path / folder).rmdir()

    def begin(self, config: Mapping[str, Any]) -> None:
        """Write the resolved settings and begin the log; a run that is to be replaced goes."""
        if self._replaces:
            self._clear()
            self._fresh, self._replaces = True, False
        start_logging(self.path / LOG)
        self.write_config(config)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved settings to ``config.yaml``."""
        text = yaml.safe_dump(dict(config), sort_keys=False)
        write_text(self.path / CONFIG, text)

    def abandon(self) -> None:
        """Give the directory back as it was found, where it held nothing: no step was taken."""
        with suppress(OSError):  # what stands beside it keeps a directory
            if self._fresh:
                self._clear()
                (self.path / LOCK).unlink(missing_ok=True)
            for path in self._made:
                path.rmdir()
        self._made, self._fresh = [], False
        self.close()

    def close(self) -> None:
        """Give the directory back."""
        if self._lock:
            self._lock.close()
            self._lock = None


def free(path: Path) -> Path:
    """The first of NAME-2, NAME-3, … beside a directory that does not exist."""
    return next(p for n in count(2) if not (p := path.with_name(f"{path.name}-{n}")).exists())


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + ", ..." * (len(names) > 5)


@contextmanager
def taken_directory(config: RunConfig, begun: Callable[[], bool]) -> Iterator[RunDirectory]:
    """A run's directory, taken by the first process; all end where it is refused.

    Args:
        config: resolved.
        begun: whether a step was taken; else the directory is given back as it was found where
            the run ends with an error.

    Raises:
        ValueError: see `RunDirectory.open`.
    """
    directory = RunDirectory(config.out)
    try:
        distributed.from_first(
            lambda: directory.open(resume=config.resume, overwrite=config.overwrite)
        )
        yield directory
    except BaseException:
        if not begun():
            directory.abandon()
        raise
    finally:
        directory.close()
