"""The screen: one console for log, tables and progress, and tables of plain text that fit it."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

# Names of files and classes are printed as they are, and numbers in one color.
console = Console(markup=False, emoji=False, highlight=False)
GAP = "  "
# What a line of the log is not for, as ``extra`` of a call: the screen, a terminal, the file.
SCREEN, TERMINAL, FILE = "screen", "terminal", "file"
FILE_ONLY = {"not_for": (SCREEN, TERMINAL)}
NOT_ON_TERMINAL = {"not_for": (TERMINAL,)}
SCREEN_ONLY = {"not_for": (FILE,)}
UNBROKEN = {"unbroken": True}  # a line to be copied: the terminal alone wraps it


def print_rows(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[bool] = (),
    screen: Console = console,
) -> None:
    """Print rows in aligned columns, or in words where the columns do not fit the screen.

    Args:
        header: a name for each column.
        rows: texts, one a column; an empty one is left out where rows are printed in words.
        right: for each column, whether it is aligned to the right.
        screen: where to print.
    """
    widths = [max(map(cell_len, column)) for column in zip(header, *rows, strict=True)]
    if sum(widths) + len(GAP) * len(widths) > screen.width:
        for row in rows:
            named = zip(header, row, strict=True)
            words = ", ".join(f"{name} {cell}" for name, cell in named if cell)
            screen.print(words, highlight=False, markup=False)
        return
    for number, row in enumerate([header, *rows]):
        cells = zip(row, widths, right or [False] * len(row), strict=True)
        line = GAP.join(_padded(*cell) for cell in cells)
        style = "" if number else "bold"
        screen.print(Text(f"{GAP}{line}".rstrip(), style), highlight=False, soft_wrap=True)


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space
