"""Charts as SVG for a page: they load nothing, and take its width and its text color."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from mgd_ssl.reporting.escaping import visible
from mgd_ssl.reporting.runs import Series

# Okabe and Ito's colors, which color-blind readers can tell apart, without the black and the
# yellow, which do not show on a dark or a light page.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = "os^DvPX*<>"
DASHES = ("-", "--", "-.", ":")
INK = "#010203"  # replaced by the page's text color, which differs between light and dark
WIDTH = 4.2  # inches: 9 points are 10 pixels on a page 360 pixels wide
LONG_LABEL = 24  # characters; two longer ones do not fit side by side
LONGEST_LABEL = 60
LOG_RATIO = 20  # of the largest to the smallest value; above it the axis is logarithmic
# Text stays text, ids are the same in every run, and $ in a name does not start a formula.
OPTIONS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
}


@matplotlib.rc_context(OPTIONS)
def line_chart(
    name: str,
    alt: str,
    lines: Mapping[str, Series],
    ylabel: str,
    xlabel: str = "epoch",
    level: float | None = None,
) -> str:
    """Values over epochs.

    Args:
        name: unique in the page.
        alt: description for readers who do not see it.
        lines: label -> epoch -> value.
        ylabel: the unit.
        xlabel: name of the horizontal axis.
        level: of a horizontal line, the teacher's figure.
    """
    figure, axes = _figure(3.0)
    for i, series in enumerate(lines.values()):
        axes.plot(
            [*series],
            [*series.values()],
            color=COLORS[i % len(COLORS)],
            marker=MARKERS[i % len(MARKERS)],
            markersize=4,
            markevery=max(1, len(series) // 10),
            linestyle=DASHES[i // len(COLORS) % len(DASHES)],
        )
    labels = [*lines]
    if level is not None:
        axes.axhline(level, color=INK, linestyle=":", linewidth=1)
        labels.append("teacher")
    values = [v for series in lines.values() for v in series.values()]
    if min(values) > 0 and max(values) > LOG_RATIO * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))  # the default one is a formula
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel(xlabel, color=INK)
    axes.set_ylabel(ylabel, color=INK)
    _legend(figure, axes.get_lines(), labels, 2)
    return _svg(figure, name, alt)


@matplotlib.rc_context(OPTIONS)
def heat_map(name: str, alt: str, cost: NDArray[np.float64]) -> str:
    """A cost (C_s,C_t), student channels down."""
    figure, axes = _figure(2.8)
    image = axes.imshow(cost, aspect="auto", cmap="cividis", interpolation="nearest")
    axes.set_xlabel("teacher channels, by group", color=INK)
    axes.set_ylabel("student channels", color=INK)
    bar = figure.colorbar(image)
    bar.set_label("cost", color=INK)
    bar.ax.tick_params(colors=INK)
    return _svg(figure, name, alt)


@matplotlib.rc_context(OPTIONS)
def scatter(
    name: str, alt: str, points: NDArray[Any], labels: Sequence[int], words: Sequence[str]
) -> str:
    """Points (N,2); each class has its own color and marker."""
    figure, axes = _figure(4.0)
    for i, label in enumerate(sorted(set(labels))):
        chosen = points[np.asarray(labels) == label]
        axes.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=9,
            color=COLORS[i % len(COLORS)],
            marker=MARKERS[i % len(MARKERS)],
            alpha=0.8,
            linewidths=0,
        )
    axes.set_xticks([])
    axes.set_yticks([])
    _legend(figure, axes.collections, words, 3)
    return _svg(figure, name, alt)


def _legend(figure: Figure, drawn: Any, labels: Sequence[str], columns: int) -> None:
    """Above the axes, where it hides nothing; long names take a line each."""
    columns = 1 if max(map(len, labels)) > LONG_LABEL else columns
    figure.legend(
        drawn,
        [_visible(label) for label in labels],
        frameon=False,
        labelcolor=INK,
        fontsize=9,
        loc="outside upper center",
        ncols=columns,
        markerscale=1.5,
    )


def _visible(label: str) -> str:
    """A short label; matplotlib would omit one that starts with an underscore."""
    text = visible(label if len(label) <= LONGEST_LABEL else f"{label[:LONGEST_LABEL]}…")
    return f"\u200b{text}" if text.startswith("_") else text


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    for part in (figure.patch, axes.patch):
        part.set_alpha(0)
    for spine in axes.spines.values():
        spine.set_edgecolor(INK)
    axes.tick_params(colors=INK, labelsize=9)
    return figure, axes


def _svg(figure: Figure, name: str, alt: str) -> str:
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer)  # type: ignore[no-untyped-call]
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    head, body = text.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', head)
    assert view is not None  # every SVG of matplotlib has one
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href").replace(INK, "currentColor")
    label = html.escape(alt, quote=True)
    return f'<svg {view[0]} role="img" aria-label="{label}">{_own_ids(body, name)}'


def _own_ids(body: str, name: str) -> str:
    """Prefix ids that are referred to with the chart's name, and remove the others."""
    slug = re.sub(r"\W+", "-", name)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda m: f' id="{slug}-{m[1]}"' if m[1] in used else "", body)
    return re.sub(r'(href="#|url\(#)', lambda m: f"{m[1]}{slug}-", body)
