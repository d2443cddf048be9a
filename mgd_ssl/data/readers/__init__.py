"""The kinds of data that can be opened: each module here is one, and its ``READER`` says how.

A new kind is a new module; nothing else names it.
"""

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from mgd_ssl.data.formats import extensions
from mgd_ssl.data.reader import Opener, Reader

LAST = "folder"  # any folder without a sign of another kind is one of image files


@cache
def readers() -> dict[str, Reader]:
    """The kinds of data by the names of their modules, folders of images last."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    names.sort(key=lambda name: name == LAST)
    return {name: importlib.import_module(f"{__name__}.{name}").READER for name in names}


def find_opener(path: Path) -> Opener:
    """What opens the data at ``path``.

    Raises:
        ValueError: nothing is there, nothing that can be read, or data of several kinds.
    """
    found = dict[str, Opener]()
    for name, reader in readers().items():
        opener = None if name == LAST and found else reader.find(path)
        if opener is not None:
            found[reader.what] = opener
    if len(found) > 1:
        raise ValueError(
            f"{path}: {' and '.join(found)}; expected one kind of data. Name the file or the "
            "folder of the one to use."
        )
    if not found:
        raise ValueError(_nothing(path))
    return next(iter(found.values()))


def _nothing(path: Path) -> str:
    if not path.exists():
        return f"data {path}: there is no such file or folder: check the path"
    if path.suffix.lower() in extensions():
        return f"data {path}: it is one image; expected several: give its folder, or a list (.txt)"
    kinds = [reader.what for reader in reversed(readers().values())]
    return (
        f"data {path}: it is a file of an unknown kind; expected {', '.join(kinds)}. Check the "
        "path, unpack an archive of another kind, or give none to run on the embedded sample."
    )
