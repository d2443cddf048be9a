"""The code blocks of README and docs/, and the command lines in them."""

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"^(?P<space> *)```(?P<head>[^\n`]*)\n(?P<text>.*?)^(?P=space)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
STARTS = ("python", "python3", "mgd-ssl", "make", "pip", "torchrun", "srun")
LAUNCHERS = ("srun", "torchrun", "nice")  # a command may begin with one and its options


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: relative to the repository.
        line: of its first line in the page, from 1.
        head: what follows the fence: a language, a title.
        text: without the fence and its indentation.
    """

    page: str
    line: int
    head: str
    text: str

    @property
    def is_of_others(self) -> bool:
        """Whether it shows another project's code, which its title names."""
        return "title=" in self.head


def pages() -> list[str]:
    """README and the pages of docs/, relative to the repository."""
    return ["README.md", *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/**/*.md"))]


def blocks_of(page: str, text: str | None = None) -> list[Block]:
    """The blocks of a page, in order."""
    text = (ROOT / page).read_text() if text is None else text
    return [
        Block(
            page,
            text.count("\n", 0, found.start("text")) + 1,
            found["head"].strip(),
            textwrap.dedent(found["text"]),
        )
        for found in FENCE.finditer(text)
    ]


def command_lines(block: Block) -> list[list[str]]:
    """The words of each command line in a block of a shell; empty for other blocks."""
    if block.is_of_others or block.head not in ("", "sh", "bash"):
        return []
    lines = block.text.replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines if not line.startswith(".")]
    found = [words for words in split if words]
    return found if any(words[0] in STARTS for words in found) else []  # else a drawing


def program(words: list[str]) -> tuple[str, list[str]]:
    """What a command line starts, a script or ``mgd-ssl NAME``, and its arguments.

    Launchers and interpreters before it are left out, with their options.
    """
    words = [word for word in words if word != "…"]
    while words[0] in LAUNCHERS:
        words = words[1:]
        while words[0].startswith("-"):
            words = words[1:]
    if words[0] in ("python", "python3", "LIGHTLY/bin/python"):
        words = words[1:]
    if words[0] == "mgd-ssl":
        return " ".join(words[:2]), words[2:]
    return words[0], words[1:]
