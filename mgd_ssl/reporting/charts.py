"""Charts, drawn once: as SVG for a page, whose width and text color they take, and as PNG."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
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
GRAY = "#8a8f98"  # shows on both pages
INK = "#010203"  # replaced by the page's text color, which differs between light and dark
WIDTH = 3.6  # inches: 9 points are 9.6 pixels in a column of 277
BAR_WIDTH, BAR_HEIGHT = 4.6, 0.4  # inches
VALUES = 126  # where the values end, in percent
CHARACTER = 2.3  # width of one of a value's, in percent
LEGEND_LINE = 0.17  # inches
SHORT_LABEL = 20  # characters; two longer ones do not fit side by side
LONGEST_LABEL, LONGEST_BAR = 48, 44
LOG_RATIO = 20  # of the largest to the smallest value; above it the axis is logarithmic
DPI = 300  # of a PNG
# Text stays text, ids are the same in every run, and $ in a name does not start a formula.
OPTIONS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Bar:
    """One network's figure, in percent.

    Attributes:
        label: its name.
        mean: over runs.
        std: over runs; None for a single one.
        color: position among `COLORS`; None for gray, the teacher's and published networks'.
    """

    label: str
    mean: float
    std: float | None
    color: int | None


@matplotlib.rc_context(OPTIONS)
def bar_chart(bars: Sequence[Bar], level: float | None, chance: float | None = None) -> Figure:
    """Horizontal bars on tracks from 0 to 100 percent, each below its label, before its value.

    Args:
        bars: from top to bottom.
        level: of a vertical line, the teacher's figure.
        chance: of a line across each bar.
    """
    figure = Figure(figsize=(BAR_WIDTH, BAR_HEIGHT * (len(bars) + 0.4)))
    axes = _axes(figure)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.99)
    axes.axis("off")
    axes.set(xlim=(0, VALUES), ylim=(len(bars) - 0.15, -0.55))
    lines = sorted(line for line in (level, chance) if line is not None)
    for y, bar in enumerate(bars):
        _draw_bar(axes, bar, y, lines)
        if chance is not None:
            axes.vlines(chance, y, y + 0.4, color=INK, linewidth=1)
    if level is not None:
        axes.vlines(level, -0.55, len(bars) - 0.6, color=INK, linestyle=":", linewidth=1)
    for x, text, side in ((0, "0", "left"), (50, "50", "center"), (100, "100", "center")):
        axes.text(x, len(bars) - 0.55, text, va="top", ha=side, color=INK, fontsize=8)
    return figure


def _draw_bar(axes: Axes, bar: Bar, y: int, lines: Sequence[float]) -> None:
    """Draw a bar; its value stands at its end, but on no line."""
    color = GRAY if bar.color is None else COLORS[bar.color % len(COLORS)]
    axes.barh(y + 0.2, 100, 0.34, color=GRAY, alpha=0.2)
    axes.barh(y + 0.2, bar.mean, 0.34, color=color)
    if bar.std:
        axes.errorbar(bar.mean, y + 0.2, xerr=bar.std, color=INK, capsize=2.5, linewidth=1)
    value = f"{bar.mean:.1f}" if bar.std is None else f"{bar.mean:.1f} ± {bar.std:.1f}"
    end = bar.mean + (bar.std or 0)
    for line in lines:
        if end <= line <= end + CHARACTER * len(value):
            end = line
    style: dict[str, Any] = {"color": INK, "fontsize": 9}
    axes.text(0, y - 0.02, shortened(bar.label, LONGEST_BAR), va="bottom", **style)
    axes.text(end + 1.2, y + 0.2, value, va="center", fontweight="bold", **style)


@matplotlib.rc_context(OPTIONS)
def line_chart(
    lines: Mapping[str, Series],
    ylabel: str,
    xlabel: str = "epoch",
    level: float | None = None,
    colors: Mapping[str, int] | None = None,
) -> Figure:
    """Values over epochs.

    Args:
        lines: label -> epoch -> value.
        ylabel: the unit.
        xlabel: name of the horizontal axis; "k" is logarithmic.
        level: of a horizontal line, the teacher's figure.
        colors: label -> position among `COLORS`; one after the other by default.
    """
    labels = [*lines] + ["teacher"] * (level is not None)
    columns = 1 if max(map(len, labels)) > SHORT_LABEL else 2
    rows = -(-len(labels) // columns) if len(labels) > 1 else 0
    figure, axes = _figure(2.1 + LEGEND_LINE * rows)
    for place, (label, series) in enumerate(lines.items()):
        i = (colors or {}).get(label, place)
        axes.plot(
            [*series],
            [*series.values()],
            color=GRAY if i < 0 else COLORS[i % len(COLORS)],
            marker=MARKERS[i % len(MARKERS)],
            markersize=3.5,
            linewidth=1.6,
            markevery=max(1, len(series) // 10),
            linestyle=DASHES[max(0, i) // len(COLORS) % len(DASHES)],
        )
    if level is not None:
        axes.axhline(level, color=INK, linestyle=":", linewidth=1)
    if xlabel == "k":
        _scale_k(axes, sorted({k for series in lines.values() for k in series}))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _scale_values(axes, [v for series in lines.values() for v in series.values()])
    axes.set_xlabel(xlabel, color=INK)
    axes.set_ylabel(ylabel, color=INK)
    if rows:
        _legend(figure, axes.get_lines(), labels, columns)
    return figure


def _scale_k(axes: Axes, values: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())


def _scale_values(axes: Axes, values: Sequence[float]) -> None:
    if min(values) <= 0 or max(values) <= LOG_RATIO * min(values):
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))  # the default one is a formula


@matplotlib.rc_context(OPTIONS)
def heat_map(cost: NDArray[np.float64]) -> Figure:
    """A cost (C_s,C_t), student channels down."""
    figure, axes = _figure(2.4)
    image = axes.imshow(cost, aspect="auto", cmap="cividis", interpolation="nearest")
    axes.set_xlabel("teacher channels, by group", color=INK)
    axes.set_ylabel("student channels", color=INK)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))
    bar = figure.colorbar(image)
    bar.ax.tick_params(colors=INK, labelsize=8)
    return figure


@matplotlib.rc_context(OPTIONS)
def scatter(points: NDArray[Any], labels: Sequence[int], words: Sequence[str]) -> Figure:
    """Points (N,2); each class has its own color and marker."""
    figure, axes = _figure(3.6)
    for i, label in enumerate(sorted(set(labels))):
        chosen = points[np.asarray(labels) == label]
        axes.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=14,
            color=COLORS[i % len(COLORS)],
            marker=MARKERS[i % len(MARKERS)],
            alpha=0.8,
            linewidths=0,
        )
    axes.set_xticks([])
    axes.set_yticks([])
    _legend(figure, axes.collections, words, 1 if max(map(len, words)) > SHORT_LABEL else 3)
    return figure


def _legend(figure: Figure, drawn: Any, labels: Sequence[str], columns: int) -> None:
    """Above the axes, where it hides nothing."""
    figure.legend(
        drawn,
        [_shown(label) for label in labels],
        frameon=False,
        labelcolor=INK,
        fontsize=8.5,
        loc="outside upper left",
        ncols=columns,
        borderpad=0,
        columnspacing=1,
        labelspacing=0.25,
        markerscale=1.4,
    )


def _shown(label: str) -> str:
    """A short label; matplotlib would omit one that starts with an underscore."""
    text = shortened(label, LONGEST_LABEL)
    return f"\u200b{text}" if text.startswith("_") else text


def shortened(label: str, length: int) -> str:
    """A label of at most ``length`` characters: names differ most often at their end."""
    half = length // 2
    return visible(label if len(label) <= length else f"{label[:half]}…{label[1 - half :]}")


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, _axes(figure)


def _axes(figure: Figure) -> Axes:
    axes = figure.add_subplot()
    for part in (figure.patch, axes.patch):
        part.set_alpha(0)
    for name, spine in axes.spines.items():
        spine.set_edgecolor(INK)
        spine.set_visible(name in ("left", "bottom"))
    axes.tick_params(colors=INK, labelsize=9)
    return axes


@matplotlib.rc_context(OPTIONS)
def to_png(figure: Figure) -> bytes:
    """A picture on white, for a paper."""
    figure.patch.set(alpha=1, facecolor="white")
    figure.set_dpi(DPI)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


@matplotlib.rc_context(OPTIONS)
def to_svg(figure: Figure, name: str, alt: str) -> str:
    """An element of a page, which may give each of `COLORS` a variant as ``--color-N``.

    Args:
        figure: a chart.
        name: unique in the page, of letters, digits and hyphens.
        alt: description for readers who do not see it.
    """
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    head, body = text.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', head)
    assert view is not None  # every SVG of matplotlib has one
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href").replace(INK, "currentColor")
    for i, color in enumerate(COLORS):
        body = body.replace(f": {color.lower()}", f": var(--color-{i}, {color.lower()})")
    label = html.escape(alt, quote=True)
    return f'<svg {view[0]} role="img" aria-label="{label}">{_own_ids(body, name)}'


def _own_ids(body: str, name: str) -> str:
    """Prefix ids that are referred to with the chart's name, and remove the others."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body)
    return re.sub(r'(href="#|url\(#)', lambda m: f"{m[1]}{name}-", body)
