"""A report as an HTML page and as Markdown, from the templates in templates/.

sections.j2 holds what a report says. It is included by report.html.j2 and by report.md.j2, which
define how a paragraph, a table or a figure looks in their format.
"""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from mgd_ssl.reporting.charts import heat_map, line_chart, scatter
from mgd_ssl.reporting.escaping import escape_markdown, fenced, visible
from mgd_ssl.reporting.features import FeatureMap
from mgd_ssl.reporting.groups import Group
from mgd_ssl.reporting.matching import read_matching
from mgd_ssl.reporting.reading import is_number
from mgd_ssl.reporting.runs import Series

Summary = Mapping[str, Any]
# Titles and units of charts, by the metric's name.
METRICS = {
    "val_knn_top1": ("kNN accuracy", "percent"),
    "val_top1": ("Top-1 accuracy", "percent"),
    "val_top5": ("Top-5 accuracy", "percent"),
    "val_AP": ("Average precision", "percent"),
    "health/effective_rank": ("Effective rank of the features", "dimensions"),
    "health/deviation": ("Mean deviation of a feature", "deviation"),
    "health/neighbour_overlap": ("Neighbors shared with the teacher", "share"),
    "health/cka": ("Linear CKA with the teacher", "CKA"),
}


@dataclass(frozen=True)
class Figure:
    """A picture; Markdown shows its caption and numbers alone.

    Attributes:
        caption: shown beneath it.
        markup: SVG or an ``img`` element, safe as it is.
        title: of the table of its numbers.
        numbers: rows of the table, the first of which is the header; empty for no table.
    """

    caption: str
    markup: Markup
    title: str = ""
    numbers: Sequence[Sequence[Any]] = ()


# A title, and a picture of each group or the reason why there is none.
Section = tuple[str, Sequence[Figure | str]]


def render(
    summary: Summary, groups: Sequence[Group], pictures: Sequence[Section] = ()
) -> tuple[str, str]:
    """The HTML page and the Markdown.

    Args:
        summary: of the groups, from `summary.summarize`.
        groups: in the order of the summary.
        pictures: sections for which the networks were run.
    """
    found = summary["groups"]
    content = {
        **summary,
        "repeated_seeds": [g for g in found if len(set(g["seeds"])) < len(g["seeds"])],
        "metrics": [*_metric_charts(found, "val_"), *_relative_charts(found)],
        "losses": [*_loss_charts(found)],
        "health": [*_metric_charts(found, "health/")],
        "without_health": [g for g in found if not _names([g], "health/")],
        "matchings": [_matching(*pair) for pair in zip(found, groups, strict=True)],
        "pictures": pictures,
    }
    page = _environment(escape).get_template("report.html.j2").render(content)
    markdown = _environment(escape_markdown).get_template("report.md.j2").render(content)
    return visible(page.lstrip()), visible(markdown.lstrip())


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


def _names(groups: Sequence[Summary], prefix: str) -> list[str]:
    names = (name for group in groups for name in group["series"] if name.startswith(prefix))
    return list(dict.fromkeys(names))


def _metric_charts(groups: Sequence[Summary], prefix: str) -> Iterator[Figure]:
    for name in _names(groups, prefix):
        if name.endswith("percent_of_teacher"):
            continue  # `_relative_charts` has it for every command
        figures = [g["figure"] for g in groups if g["figure"]["metric"] == name]
        levels = [figure["teacher"]["mean"] for figure in figures if figure["teacher"]]
        lines = {g["name"]: g["series"].get(name) for g in groups}
        yield from _chart(*METRICS.get(name, (name, "")), lines, next(iter(levels), None))


def _relative_charts(groups: Sequence[Summary]) -> Iterator[Figure]:
    lines = {g["name"]: g["percent_of_teacher"] for g in groups}
    yield from _chart("Validation metric relative to the teacher", "percent", lines, 100.0)


def _loss_charts(groups: Sequence[Summary]) -> Iterator[Figure]:
    for group in groups:
        yield from _chart(f"Loss terms of {group['name']}", "loss", group["losses"])


def _chart(
    title: str, unit: str, lines: Mapping[str, Any], level: float | None = None
) -> Iterator[Figure]:
    """A chart of label -> pairs of epoch and value, if there are any."""
    series: dict[str, Series] = {name: dict(pairs) for name, pairs in lines.items() if pairs}
    if not series:
        return
    epochs = sorted({epoch for values in series.values() for epoch in values})
    rows = [[epoch, *(values.get(epoch) for values in series.values())] for epoch in epochs]
    ends = ", ".join(f"{name} {cell([*values.values()][-1])}" for name, values in series.items())
    alt = f"{title} over epochs; at the end: {ends}"
    svg = Markup(line_chart(title, alt, series, unit, level=level))
    yield Figure(f"{title} over epochs; mean over seeds", svg, title, [["epoch", *series], *rows])


def _matching(group: Summary, runs: Group) -> dict[str, Any]:
    """The matching of a group's first run, which stands for the group."""
    run = runs.first.path.absolute().name
    return {
        "group": group["name"],
        "run": run,
        "seed": cell(runs.first.setting("seed")),
        "stages": group["matching"],
        "figures": [*_matching_figures(group, run, runs.first.path)],
    }


def _matching_figures(group: Summary, run: str, path: Path) -> Iterator[Figure]:
    if not group["matching"]:
        return
    costs = {name: _relative_cost(stage["solves"]) for name, stage in group["matching"].items()}
    title = f"Total cost of {run} over its solves, relative to the first"
    chart = line_chart(f"{title} {group['name']}", title, costs, "percent", "solve")
    yield Figure(title, Markup(chart))
    for stage, solves in read_matching(path).items():
        caption = (
            f"Cost of {run}, stage {stage}, at the last solve. Student channels are sorted by the "
            "cost of their group, teacher channels by group, with those never chosen at the end"
        )
        svg = heat_map(f"cost {run} {group['name']} {stage}", caption, solves[-1].sorted()[0])
        yield Figure(caption, Markup(svg))


def _relative_cost(solves: Sequence[Summary]) -> Series:
    first = solves[0]["total_cost"] or 1.0
    return {float(i): 100 * s["total_cost"] / first for i, s in enumerate(solves, 1)}


def feature_figure(name: str, found: FeatureMap) -> Figure:
    """A run's features in two dimensions."""
    text = f"{name}: {found.method} of the features of {len(found.points)} images, by {found.by}"
    if found.share is not None:
        text += f"; {found.share:.1f}% of the variance"
    svg = scatter(f"map {name}", text, found.points, found.labels, found.words)
    return Figure(text, Markup(svg))


def retrieval_figure(name: str, png: bytes) -> Figure:
    """A run's retrieval examples."""
    text = (
        f"{name}: each row is a query, framed in blue with a question mark, and its nearest "
        "training images, framed in green with a check mark if they are of the same class, or in "
        "red with a cross"
    )
    image = Markup('<img alt="{}" src="data:image/png;base64,{}">')
    return Figure(text, image.format(text, base64.b64encode(png).decode()))
