"""Classes go by name: those of a classifier, and those of the data it meets."""

import re
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mgd_ssl.data import ImageSource
from mgd_ssl.models import KeyReport, head_of
from mgd_ssl.training.logging import logger

Names = Sequence[str] | None
MOST_NUMBERED = 100_000  # classes; ImageNet's 21,841 are the most that are in use
CODE = re.compile(r"n\d{8}|\d+")  # WordNet's ids, as ImageNet's folders have, or numbers


def count_classes(source: ImageSource, val: ImageSource) -> int:
    """As many as have names; where none have, labels count from 0 to the last class of either.

    Raises:
        ValueError: a label is too large to be the number of a class.
    """
    assert source.labels is not None and val.labels is not None
    if source.classes:
        return len(source.classes)
    count = 1 + int(max(source.labels.max(), val.labels.max()))
    if count > max(MOST_NUMBERED, len(source)):
        raise ValueError(
            f"{source.name}: got the label {count - 1}, expected classes that are numbered from 0 "
            f"without large gaps, at most {MOST_NUMBERED:,} of them; number them anew, or give "
            "them names"
        )
    return count


def match_classes(network: nn.Module, report: KeyReport, count: int, names: Names) -> str | None:
    """Put a classifier's outputs into the order of the data's classes.

    Args:
        network: from `load_classifier`; rows of its last layer change places where the same names
            come in another order.
        report: of its file.
        count: classes of the data.
        names: of the data's classes, in order; None where the data has none.

    Returns:
        What differs where the classes are not the same, in words; None where they are.
    """
    theirs, said = report.class_names, f"{report.path}: {report.classes} classes"
    if report.classes != count:
        return (
            f"its classifier has {report.classes} classes{_few(theirs)}, the data {count}"
            f"{_few(names)}"
        )
    if theirs is None or names is None:
        whose = "the file" if theirs is None else "the data"
        logger.info("%s, as the data; their names were not compared: %s has none", said, whose)
    elif list(theirs) == list(names):
        return None
    elif sorted(theirs) != sorted(names) or len(set(names)) < count:
        if not (report.published and _are_codes(theirs) != _are_codes(names)):
            mine, yours = _only(theirs, names), _only(names, theirs)
            return (
                f"its classifier has the classes{_few(theirs)}, the data{_few(names)}, with{mine} "
                f"in the former alone and{yours} in the latter"
            )
        logger.info(
            "%s%s, as many as the data%s; taken to be in the same order, as the names cannot be "
            "compared",
            *(said, _few(theirs), _few(names)),
        )
    else:
        _reorder(network, [theirs.index(name) for name in names])
        logger.info("%s%s, put into the data's order%s", said, _few(theirs), _few(names))
    return None


def _few(names: Names) -> str:
    """The first names, in brackets; nothing where there are none."""
    if not names:
        return ""
    return f" ({', '.join(names[:4])}{', …' if len(names) > 4 else ''})"


def _only(names: Sequence[str], others: Sequence[str]) -> str:
    known = set(others)
    return _few([name for name in names if name not in known]) or " none"


def _are_codes(names: Sequence[str]) -> bool:
    return all(CODE.fullmatch(name) for name in names)


@torch.no_grad()
def _reorder(network: nn.Module, order: list[int]) -> None:
    """Let a classifier's output i be what its output ``order[i]`` was."""
    last = [m for m in head_of(network).modules() if isinstance(m, nn.Linear)][-1]
    for parameter in (last.weight, cast(Tensor | None, last.bias)):
        if parameter is not None:
            parameter.copy_(parameter[order].clone())
