"""What a report is made of, before it is a page or Markdown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells that are ready to read.

    Attributes:
        caption: what the rows are.
        header: of the columns; the first one names the rows.
        rows: as many cells each.
        folded: whether the page shows it only on demand, as the numbers of a chart.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False


@dataclass(frozen=True)
class Picture:
    """A chart or a photograph; Markdown has its caption alone.

    Attributes:
        caption: beneath it.
        markup: SVG or an ``img`` with its data inside, safe as it is.
    """

    caption: str
    markup: str


@dataclass(frozen=True)
class Command:
    """A command line to copy."""

    line: str


HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
Block = Words | Table | Picture | Command


@dataclass(frozen=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: Sequence[Block]


def visible(text: str) -> str:
    """Text that can be written as UTF-8 and shows all that is in it.

    Control characters, marks that turn the direction of writing, and bytes of names that are not
    UTF-8 become an escape of ASCII characters.
    """
    return HIDDEN.sub(lambda m: m[0].encode("unicode_escape", "surrogatepass").decode(), text)


def cell(value: object) -> str:
    """A value as a cell: numbers as the JSON has them, nothing as a dash."""
    if value is None or value == "":
        return "–"
    return f"{value:.10g}" if isinstance(value, float) else str(value)
