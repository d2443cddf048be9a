"""A report as an HTML page and as Markdown, from the templates in templates/.

sections.j2 holds what a report says. It is included by report.html.j2 and by report.md.j2, which
define how a paragraph, a table or a picture looks in their format.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from mgd_ssl.reporting.escaping import escape_markdown, fenced, visible
from mgd_ssl.reporting.groups import Group
from mgd_ssl.reporting.pictures import (
    Picture,
    Section,
    bar_pictures,
    curves,
    matching_pictures,
    more_curves,
    named,
    vote_curves,
)
from mgd_ssl.reporting.reading import is_number

Summary = Mapping[str, Any]
DIFFERENT = 12  # settings that differ and are shown at once


class Document(NamedTuple):
    """A report in both formats, and its pictures."""

    page: str
    markdown: str
    pictures: Sequence[Picture]


def render(summary: Summary, groups: Sequence[Group], sections: Sequence[Section] = ()) -> Document:
    """The HTML page, the Markdown and the pictures, each with a name of its own.

    Args:
        summary: of the groups, from `summary.summarize`.
        groups: in the order of the summary.
        sections: for which the networks were run.
    """
    found, best = summary["groups"], summary["verdict"][0]["group"]
    taken = set[str]()
    charts = _named(_charts(summary, groups).items(), taken)
    sections = _named(sections, taken)
    content = {
        **summary,
        "charts": dict(charts),
        "sections": sections,
        "matched": sorted((g for g in found if g["matching"]), key=lambda g: g["name"] != best),
        "different": DIFFERENT,
        "repeated_seeds": [g for g in found if len(set(g["seeds"])) < len(g["seeds"])],
        "without_health": [g for g in found if not _has(g, "health/")],
    }
    page = _environment(escape).get_template("report.html.j2").render(content)
    markdown = _environment(escape_markdown).get_template("report.md.j2").render(content)
    shown = itertools.chain(*(some for _, some in [*charts, *sections]))
    pictures = [one for one in shown if isinstance(one, Picture)]
    return Document(visible(page.lstrip()), visible(markdown.lstrip()), pictures)


def _charts(summary: Summary, groups: Sequence[Group]) -> dict[str, list[Picture]]:
    """All charts by their place in the templates."""
    found = summary["groups"]
    charts = {
        "bars": [*bar_pictures(summary)],
        "curves": [*curves(found)],
        "votes": [*vote_curves(found)],
        "more_curves": [*more_curves(found)],
    }
    for group, runs in zip(found, groups, strict=True):
        charts[f"matching of {group['name']}"] = [*matching_pictures(group, runs)]
    return charts


def _named(
    sections: Iterable[tuple[str, Sequence[Picture | str]]], taken: set[str]
) -> list[Section]:
    return [
        (title, [one if isinstance(one, str) else named(title, one, taken) for one in shown])
        for title, shown in sections
    ]


def _has(group: Summary, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in group["series"])


def _environment(escape_value: Callable[[object], Markup]) -> Environment:
    """Templates of one format; whatever they print is escaped, unless it is Markup."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        finalize=lambda value: escape_value(cell(value)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"fenced": fenced, "percent": percent, "plus_minus": plus_minus, "pairs": pairs}
    environment.filters |= filters
    return environment


def cell(value: object) -> object:
    """A value as it is shown: numbers as in the JSON, a dash for nothing."""
    if value is None or (value == "" and not isinstance(value, Markup)):
        return "–"
    return f"{value:.10g}" if isinstance(value, float) else value


def percent(value: float | None) -> str | None:
    """Two decimal places, as in the JSON."""
    return None if value is None else f"{value:.2f}"


def plus_minus(spread: Mapping[str, Any] | None) -> str | None:
    """``79.40 ± 0.12``; without the deviation if there is one run."""
    if spread is None or spread["std"] is None:
        return percent(spread["mean"] if spread else None)
    return f"{spread['mean']:.2f} ± {spread['std']:.2f}"


def pairs(values: Mapping[str, Any]) -> str:
    """Names and values; for images, how many were read of how many."""
    found = []
    for name, value in values.items():
        missing = values.get(name.replace("_images", "_unreadable"), 0)
        if name.endswith("_images") and is_number(value) and is_number(missing) and missing:
            value = f"{value} of {value + missing}"
        found.append(f"{name} {cell(value)}")
    return ", ".join(found)
