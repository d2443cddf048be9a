"""A report as Markdown."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mgd_ssl.reporting.blocks import Block, Command, Picture, Section, Table, Words, visible

SPECIAL = re.compile(r"([\\`*_\[\]<>|#&~$])")
# What begins a list or a rule at the start of a line, and what GitHub makes a link of by itself.
BEGINNING = re.compile(r"^([-+=]|\d+(?=[.)](?:\s|$)))")
LINK = re.compile(r"(https?|ftp|mailto|xmpp)(?=:)|(www)(?=\.)|(?=@)", re.IGNORECASE)


def to_markdown(summary: Mapping[str, Any], sections: Sequence[Section]) -> str:
    """Title, verdict and every section; tables as in GitHub's Markdown."""
    parts = [f"# {_escape(summary['title'])}"]
    parts += [f"**{_escape(line)}**" for line in summary["verdict"]]
    for section in sections:
        parts += [f"## {_escape(section.title)}", *(_block(b) for b in section.blocks)]
    return visible("\n\n".join(part for part in parts if part) + "\n")


def _block(block: Block) -> str:
    match block:
        case Words(text):
            return _escape(text)
        case Command(line):
            fence = "`" * max(3, 1 + max((len(m) for m in re.findall("`+", line)), default=0))
            return f"{fence}\n{line}\n{fence}"
        case Picture(caption):
            return f"*Figure, in the page: {_escape(caption)}*"
        case Table(caption, header, rows):
            lines = [_row(header), _row(["---"] * len(header), escape=False), *map(_row, rows)]
            return f"{_escape(caption)}\n\n" + "\n".join(lines)


def _row(cells: Sequence[str], escape: bool = True) -> str:
    return f"| {' | '.join(_escape(c) if escape else c for c in cells)} |"


def _escape(text: str) -> str:
    """Text that shows as it is, on one line."""
    escaped = LINK.sub(lambda m: f"{m[0]}\\", SPECIAL.sub(r"\\\1", " ".join(text.split())))
    return BEGINNING.sub(_escaped, escaped)


def _escaped(match: re.Match[str]) -> str:
    """A digit cannot be escaped, but the full stop after it can."""
    return f"{match[0]}\\" if match[0].isdigit() else f"\\{match[0]}"
