"""Which column of a Hugging Face data set holds the images, and which one the labels."""

from collections.abc import Mapping
from typing import Any

IMAGE_NAMES = ("image", "img", "picture", "photo", "jpg", "png", "webp", "bytes", "content")
LABEL_NAMES = ("label", "labels", "class", "cls", "target", "category", "fine_label")


def image_column(where: str, features: Mapping[str, Any], given: str | None) -> str:
    """The column of images.

    Args:
        where: the data, for messages.
        features: of the data set: the type of each column.
        given: the column that the user named, or None.

    Raises:
        ValueError: there is no such column, or there are several.
    """
    fitting = [name for name, feature in features.items() if _holds_images(feature)]
    found = [name for name in IMAGE_NAMES if name in fitting][:1] or fitting
    return _one(where, features, fitting if given else found, given, "image")


def label_column(where: str, features: Mapping[str, Any], given: str | None) -> str:
    """The column of labels; see `image_column`."""
    fitting = [name for name, feature in features.items() if _holds_labels(feature)]
    classes = [n for n in fitting if type(features[n]).__name__ == "ClassLabel"]
    found = [name for name in LABEL_NAMES if name in fitting][:1] or classes
    return _one(where, features, fitting if given else found, given, "label")


def _one(
    where: str, features: Mapping[str, Any], found: list[str], given: str | None, what: str
) -> str:
    """The column that was given, or the only one that was found."""
    chosen = [name for name in found if given in (None, name)]
    if len(chosen) == 1:
        return chosen[0]
    there = ", ".join(f"{name} ({_kind(feature)})" for name, feature in features.items())
    got = f"no column {given} of {what}s" if given else f"no column of {what}s"
    got = f"several columns of {what}s" if chosen else got
    raise ValueError(
        f"{where}: {got} among {there or 'none'}; expected one. "
        f"{_remedy(features, found, given, what)}"
    )


def _remedy(features: Mapping[str, Any], found: list[str], given: str | None, what: str) -> str:
    """What helps where no column is the one, or several are."""
    named = [name for name, feature in features.items() if _is_text(feature)]
    named = [name for name in named if given in (None, name)]
    if what == "image" and named and (given or not found):
        return (
            f"Files that rows name are not followed; if {' or '.join(named)} holds paths, write "
            "them to a list (.txt, .csv) and give that as DATA."
        )
    return f"Name it: DATA?{what}=COLUMN"


def _kind(feature: Any) -> str:
    return str(getattr(feature, "dtype", None) or type(feature).__name__)


def _holds_images(feature: Any) -> bool:
    """An image feature, a record of bytes, or bytes."""
    if type(feature).__name__ == "Image":
        return True
    if isinstance(feature, Mapping):
        return _kind(feature.get("bytes")) in ("binary", "large_binary")
    return _kind(feature) in ("binary", "large_binary")


def _holds_labels(feature: Any) -> bool:
    """A feature of classes, whole numbers, or words."""
    if type(feature).__name__ == "ClassLabel":
        return True
    return "int" in _kind(feature) or _is_text(feature)


def _is_text(feature: Any) -> bool:
    return _kind(feature) in ("string", "large_string")
