"""Escaping: names and texts of a run's files are shown as they are and do nothing."""

import re

from markupsafe import Markup

# Control characters, marks that change the direction of writing, and bytes that are not UTF-8.
HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
SPECIAL = re.compile(r"([\\`*_\[\]<>|#&~$])")
# What starts a list or a rule at the start of a line, and what GitHub turns into a link.
LIST_MARKER = re.compile(r"^([-+=]|\d+(?=[.)](?:\s|$)))")
LINK = re.compile(r"(https?|ftp|mailto|xmpp)(?=:)|(www)(?=\.)|(?=@)", re.IGNORECASE)


def visible(text: str) -> str:
    """Text that can be written as UTF-8, with hidden characters as ASCII escapes."""
    return HIDDEN.sub(lambda m: m[0].encode("unicode_escape", "surrogatepass").decode(), text)


def escape_markdown(value: object) -> Markup:
    """A value as GitHub's Markdown, on one line; what is Markup already stays."""
    if isinstance(value, Markup):
        return value
    escaped = SPECIAL.sub(r"\\\1", " ".join(str(value).split()))
    escaped = LINK.sub(lambda m: f"{m[0]}\\", escaped)
    return Markup(LIST_MARKER.sub(_escape_marker, escaped))


def _escape_marker(match: re.Match[str]) -> str:
    """A digit cannot be escaped, but the period after it can."""
    return f"{match[0]}\\" if match[0].isdigit() else f"\\{match[0]}"


def fenced(line: str) -> Markup:
    """A code block of Markdown, with a fence longer than any in it."""
    fence = "`" * max(3, 1 + max((len(m) for m in re.findall("`+", line)), default=0))
    return Markup(f"{fence}\n{line}\n{fence}")
