"""Parquet and Arrow files, saved data sets and the hub's, through Hugging Face ``datasets``."""

import importlib.util
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.data.folders import counted, folders_of
from mgd_ssl.data.hub_columns import image_column, label_column
from mgd_ssl.data.hub_source import HubSource
from mgd_ssl.data.parts import beside, find_part
from mgd_ssl.data.reader import Opener, Reader, Wanted
from mgd_ssl.data.shard_groups import find_group, holds_files
from mgd_ssl.data.sources import NoValidationError

logger = logging.getLogger(__name__)
HUB = "hf:"
SUFFIXES = (".parquet", ".arrow")
KEYS = ("image", "label", "config", "revision")
OF_HUB = ("config", "revision")


@dataclass(frozen=True)
class Place:
    """A data set as the user names it: ``hf:NAME?image=COLUMN&label=COLUMN&config=…``.

    Attributes:
        data: path, or the name on the hub behind ``hf:``.
        options: behind the question mark.
    """

    data: str
    options: dict[str, str]

    @classmethod
    def of(cls, path: Path) -> "Place":
        """Read what stands behind a question mark, unless a file is called so.

        Raises:
            ValueError: an option that is not known, or that a local data set has not; or no name.
        """
        data, mark, query = str(path).partition("?")
        if data == HUB:
            raise ValueError(f"data {path}: got no name behind {HUB}, expected {HUB}NAME")
        if not mark or path.exists():
            return cls(str(path), {})
        options = dict(parse_qsl(query))
        known = KEYS if data.startswith(HUB) else tuple(k for k in KEYS if k not in OF_HUB)
        if unknown := [key for key in options if key not in known] or (not options and [query]):
            raise ValueError(
                f"data {path}: got {unknown[0]} behind the question mark; expected "
                f"{', '.join(known)}, as in {data}?image=COLUMN&label=COLUMN"
            )
        return cls(data, options)


class Rows(NamedTuple):
    """The rows of a split, what they are called, and what was left out, in words."""

    rows: Any
    name: str
    skipped: str = ""


Load = Callable[[Wanted], Rows]


def find(path: Path) -> Opener | None:
    """A name on the hub, a file, a folder of files, or what ``save_to_disk`` wrote."""
    if "?" not in str(path) and not str(path).startswith(HUB) and not path.exists():
        return None
    place = Place.of(path)
    load = _loader(place)
    return None if load is None else partial(_open, place, load)


def _loader(place: Place) -> Load | None:
    """What loads the rows of a split, and names them."""
    path = Path(place.data)
    if place.data.startswith(HUB):
        return partial(_load_hub, place)
    if path.suffix.lower() in SUFFIXES and path.is_file():
        return partial(_load_file, path)
    if path.is_dir() and (_is_saved(path) or (path / "dataset_dict.json").is_file()):
        return partial(_load_saved, path)
    for folder in (path / "data", path):  # where the hub's repositories have them
        # beside tar shards such files say what else is known of the images
        if holds_files(folder, SUFFIXES) and not holds_files(folder, [".tar"]):
            return partial(_load_folder, folder)
    return None


def _open(place: Place, load: Load, wanted: Wanted) -> HubSource:
    if importlib.util.find_spec("datasets") is None:
        raise ValueError(
            f"{place.data}: the package datasets is not installed, which reads it; expected it. "
            "pip install 'datasets>=4'"
        )
    rows, name, skipped = load(wanted)
    if not len(rows):
        raise ValueError(f"{name}: no rows; expected images.")
    column = image_column(name, rows.features, place.options.get("image"))
    source = HubSource(_undecoded(rows, column), column, name, wanted.max_pixels)
    source.skipped = skipped
    try:
        source.labels, source.classes = _labels(place, load, wanted, rows, name)
    except ValueError:
        if wanted.labeled or "label" in place.options:
            raise
    return source


def _undecoded(rows: Any, column: str) -> Any:
    """The image column alone, as bytes."""
    from datasets import Image

    kept = rows.select_columns([column])
    is_image = type(rows.features[column]).__name__ == "Image"
    return kept.cast_column(column, Image(decode=False)) if is_image else kept


def _labels(
    place: Place,
    load: Load,
    wanted: Wanted,
    rows: Any,
    name: str,
) -> tuple[NDArray[np.int64] | None, list[str] | None]:
    """Labels, and the names of the classes where they have some.

    Raises:
        ValueError: no column of labels, or several; rows without a label among others; or classes
            that the training rows lack.
    """
    column = label_column(name, rows.features, place.options.get("label"))
    feature, values = rows.features[column], rows.data.column(column)
    if values.null_count:
        raise ValueError(
            f"{name}: {values.null_count:,} of {len(rows):,} rows have no {column}; expected one "
            "in each. Mend the data, or use a command without labels."
        )
    if "string" in str(values.type):
        return _named(place, load, wanted, name, column, values)
    labels: NDArray[np.int64] = values.to_numpy().astype(np.int64)
    if (unknown := int((labels < 0).sum())) == len(labels):
        return None, None  # how the hub marks images whose labels are kept secret
    if unknown:
        raise ValueError(f"{name}: {unknown:,} of {len(labels):,} labels are negative.")
    return labels, list(getattr(feature, "names", None) or ()) or None


def _named(
    place: Place,
    load: Load,
    wanted: Wanted,
    name: str,
    column: str,
    values: Any,
) -> tuple[NDArray[np.int64], list[str]]:
    """Labels of words, sorted; the training rows say which there are."""
    of_train = values
    if wanted.split == "val":
        train = load(Wanted("train", wanted.labeled, wanted.train_folder, wanted.val_folder))
        of_train = train.rows.data.column(column)
    classes = sorted(of_train.unique().to_pylist())
    encoded = values.combine_chunks().dictionary_encode()
    words = encoded.dictionary.to_pylist()
    if unknown := sorted(set(words) - set(classes)):
        raise ValueError(
            f"{name}: classes that the training images have not: {', '.join(unknown[:5])}; "
            "expected the same in both."
        )
    number = {word: i for i, word in enumerate(classes)}
    codes = np.array([number[word] for word in words], np.int64)
    return codes[encoded.indices.to_numpy().astype(np.int64)], classes


# where the rows are


def _load_file(path: Path, wanted: Wanted) -> Rows:
    wanted.refuse_folders(str(path))
    file = beside(path, wanted.split)
    return _files(str(file), [file])


def _load_folder(path: Path, wanted: Wanted) -> Rows:
    group, _ = find_group(path, SUFFIXES, wanted, wanted.split)
    name = f"{group.folder}/{group.prefix}*" if group.prefix else str(group.folder)
    return _files(name, [group.folder / file for file in group.names])


def _files(name: str, files: list[Path]) -> Rows:
    """The rows of files, but for files without rows, which the package cannot read."""
    from datasets import load_dataset

    kinds = {file.suffix.lower()[1:] for file in files}
    if len(kinds) > 1:
        raise ValueError(f"{files[0].parent}: files of {' and '.join(kinds)}; expected one kind.")
    kind = kinds.pop()
    filled = [str(file) for file in files if kind != "parquet" or _has_rows(file)]
    if not filled:
        raise ValueError(f"{name}: no rows; expected images.")
    rows = _reported(
        filled[0], lambda: load_dataset(kind, data_files={"train": filled}, split="train")
    )
    empty = len(files) - len(filled)
    return Rows(rows, name, counted(Counter({"files without rows": empty} if empty else {})))


def _has_rows(file: Path) -> bool:
    """Whether a Parquet file's footer counts rows."""
    from pyarrow.parquet import read_metadata

    return bool(_reported(str(file), lambda: read_metadata(file)).num_rows)


def _is_saved(path: Path) -> bool:
    return (path / "state.json").is_file() and (path / "dataset_info.json").is_file()


def _load_saved(path: Path, wanted: Wanted) -> Rows:
    from datasets import load_from_disk

    wanted.refuse_folders(str(path))
    if not _is_saved(path):
        parts = [name for name in folders_of(path) if _is_saved(path / name)]
        remedy = "Name the folder of the one to use."
        part = find_part(str(path), parts, wanted.split, remedy)
        if part is None:
            raise ValueError(f"{path}: parts {', '.join(parts)}; expected train. {remedy}")
        path = path / part
    elif wanted.split == "val":
        raise NoValidationError(f"{path}: no validation images; expected a saved DatasetDict.")
    return Rows(_reported(str(path), lambda: load_from_disk(str(path))), str(path))


def _load_hub(place: Place, wanted: Wanted) -> Rows:
    from datasets import get_dataset_split_names, load_dataset

    wanted.refuse_folders(place.data)
    name = place.data.removeprefix(HUB)
    config, revision = (place.options.get(key) for key in OF_HUB)
    names = _reported(place.data, lambda: get_dataset_split_names(name, config, revision=revision))
    part = find_part(place.data, names, wanted.split, "Name its parts train and validation.")
    if part is None:
        raise ValueError(f"{place.data}: parts {', '.join(names)}; expected one called train.")
    rows = _reported(place.data, lambda: load_dataset(name, config, split=part, revision=revision))
    return Rows(rows, f"{place.data}[{part}]")


def _reported(where: str, load: Callable[[], Any]) -> Any:
    """What is loaded; whatever the package raises on data that it cannot read is one message."""
    try:
        return load()
    except Exception as error:
        cause = error.__cause__ or error
        said = " ".join(f"{type(cause).__name__}: {cause}".split())
        raise ValueError(
            f"{where}: cannot be read ({said[:300]}); expected a data set of images. Check the "
            "name, or fetch the files again."
        ) from error


READER = Reader("Parquet or Arrow files, or hf:NAME on the hub of Hugging Face", find)
