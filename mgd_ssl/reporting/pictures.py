"""The pictures of a report: each is drawn once, for the page and as a PNG file."""

import base64
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from mgd_ssl.files import write_bytes
from mgd_ssl.reporting.charts import (
    Bar,
    bar_chart,
    heat_map,
    line_chart,
    scatter,
    to_png,
    to_svg,
)
from mgd_ssl.reporting.features import FeatureMap, Retrieval
from mgd_ssl.reporting.groups import Group
from mgd_ssl.reporting.matching import read_matching
from mgd_ssl.reporting.places import comparable
from mgd_ssl.reporting.results import images_in_words
from mgd_ssl.reporting.runs import Series

Summary = Mapping[str, Any]
# Titles and units of charts, by the metric's name.
METRICS = {
    "val_knn_top1": ("kNN accuracy", "percent"),
    "val_top1": ("Top-1 accuracy", "percent"),
    "val_top5": ("Top-5 accuracy", "percent"),
    "val_AP": ("Average precision", "percent"),
    "health/neighbor_overlap_percent": ("Agreement with the teacher", "percent of neighbors"),
    "health/cka": ("Linear CKA with the teacher", "CKA"),
    "health/effective_rank": ("Effective rank of the features", "dimensions"),
    "health/deviation": ("Mean deviation of a feature", "deviation"),
}
LESS_SHOWN = ("health/deviation",)
ROLES = {"baseline": " (baseline)", "alone": " (no teacher)", "published": " (published)"}
TEACHER = -1  # the color of a teacher's line


@dataclass(frozen=True)
class Picture:
    """A picture; Markdown shows its caption and numbers alone.

    Attributes:
        title: short, shown above it.
        alt: what it shows, for readers who do not see it.
        drawing: a chart, or a PNG.
        caption: shown beneath it; empty for none.
        numbers: rows of a table, the first of which is the header; empty for no table.
        name: of the file, unique in the report.
    """

    title: str
    alt: str
    drawing: Figure | bytes
    caption: str = ""
    numbers: Sequence[Sequence[Any]] = ()
    name: str = ""

    @property
    def markup(self) -> Markup:
        """An element of the page, safe as it is."""
        if isinstance(self.drawing, bytes):
            image = Markup('<img alt="{}" src="data:image/png;base64,{}">')
            return image.format(self.alt, base64.b64encode(self.drawing).decode())
        return Markup(to_svg(self.drawing, self.name, self.alt))

    @property
    def png(self) -> bytes:
        """For a file."""
        return self.drawing if isinstance(self.drawing, bytes) else to_png(self.drawing)


# A title, and pictures, each followed or replaced by a sentence where one is needed.
Section = tuple[str, Sequence[Picture | str]]


def named(section: str, picture: Picture, taken: set[str]) -> Picture:
    """The picture with a name that is not taken, ``curves-training-loss``; it is taken then."""
    slug = re.sub(r"[^a-z0-9]+", "-", f"{section} {picture.title}".lower())[:80].strip("-")
    names = (slug if i == 1 else f"{slug}-{i}" for i in itertools.count(1))
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return replace(picture, name=name)


def bar_pictures(summary: Summary) -> Iterator[Picture]:
    """The panels of the headline."""
    colors = _colors(summary["groups"])
    for panel in summary["panels"]:
        bars = [
            Bar(
                f"{bar['name']}{ROLES.get(bar['role'], '')}",
                bar["mean"],
                bar["std"],
                None if bar["role"] in ("teacher", "published") else colors[bar["name"]],
            )
            for bar in panel["bars"]
        ]
        caption = panel["conditions"]
        if panel["chance"] is not None:
            caption += " (the line across the bars)"
        if panel["apart"]:
            caption += f"; not so measured: {', '.join(panel['apart'])}"
        rows = [[b["name"], b["role"], b["mean"], b["std"], b["seeds"]] for b in panel["bars"]]
        yield Picture(
            f"{panel['words'][0].upper()}{panel['words'][1:]}, %".replace("KNN", "kNN"),
            f"{panel['conditions']}: " + ", ".join(f"{bar.label} {bar.mean:g}" for bar in bars),
            bar_chart(bars, panel["teacher"], panel["chance"]),
            caption,
            [["network", "role", "mean", "std", "seeds"], *rows],
        )


def _colors(groups: Sequence[Summary]) -> dict[str, int]:
    return {group["name"]: i for i, group in enumerate(groups)}


def curves(groups: Sequence[Summary]) -> Iterator[Picture]:
    """Loss, validation metrics and health over epochs, a line for each group."""
    yield from _chart("Training loss", "loss", groups, {g["name"]: g["loss"] for g in groups})
    found = dict.fromkeys(name for group in groups for name in group["series"])
    known = [name for name in METRICS if name in found and name not in LESS_SHOWN]
    for name in [*known, *(name for name in found if name not in METRICS)]:
        if name in LESS_SHOWN or name.endswith("percent_of_teacher"):
            continue  # `more_curves` has them
        figures = [g["figure"] for g in groups if g["figure"]["metric"] == name]
        levels = {figure["teacher"]["mean"] for figure in figures if figure["teacher"]}
        lines = {g["name"]: g["series"].get(name) for g in groups}
        level = levels.pop() if len(levels) == 1 else None
        title, unit = METRICS.get(name, (name, ""))
        yield from _chart(title, unit, groups, lines, level)


def more_curves(groups: Sequence[Summary]) -> Iterator[Picture]:
    """The validation metric as a share of the teacher's, more health, each group's loss terms."""
    lines = {g["name"]: g["percent_of_teacher"] for g in groups}
    yield from _chart("Validation metric relative to the teacher", "percent", groups, lines, 100.0)
    for name in LESS_SHOWN:
        lines = {g["name"]: g["series"].get(name) for g in groups}
        yield from _chart(*METRICS[name], groups, lines)
    for group in groups:
        yield from _chart(f"Loss terms of {group['name']}", "loss", [], group["losses"])


def _chart(
    title: str,
    unit: str,
    groups: Sequence[Summary],
    lines: Mapping[str, Any],
    level: float | None = None,
) -> Iterator[Picture]:
    """A chart of label -> pairs of epoch and value, if there are any."""
    series: dict[str, Series] = {name: dict(pairs) for name, pairs in lines.items() if pairs}
    if series:
        drawing = line_chart(series, unit, level=level, colors=_colors(groups))
        yield Picture(title, _ends(title, series), drawing, numbers=_table("epoch", series))


def _ends(title: str, series: Mapping[str, Series]) -> str:
    ends = ", ".join(f"{name} {[*values.values()][-1]:g}" for name, values in series.items())
    return f"{title}; at the end: {ends}"


def _table(first: str, series: Mapping[str, Series]) -> list[list[Any]]:
    places = sorted({place for values in series.values() for place in values})
    rows = [[place, *(values.get(place) for values in series.values())] for place in places]
    return [[first, *series], *rows]


def vote_curves(groups: Sequence[Summary]) -> Iterator[Picture]:
    """kNN accuracy over k for each temperature, of figures that were measured alike."""
    found: dict[tuple[str, str, str], dict[str, Series]] = {}
    for group in groups:
        for row in group["results"]:
            settings = comparable(row["settings"])
            k, t = settings.get("k"), settings.get("T")
            if not isinstance(k, int | float) or k <= 0:
                continue
            others = sorted(f"{n} {v}" for n, v in settings.items() if n not in ("k", "T", "size"))
            alike = str((row["protocol"], row["checkpoint"], others))
            how = ", ".join([f"T {t}", *row["apart"]])
            lines = found.setdefault((alike, how, images_in_words(settings)), {})
            lines.setdefault(group["name"], {})[float(k)] = row["top1"]["mean"]
            if row["teacher_top1"] is not None:
                lines.setdefault("teacher", {})[float(k)] = row["teacher_top1"]
    colors = {**_colors(groups), "teacher": TEACHER}
    for (_, how, images), lines in found.items():
        series = {name: dict(sorted(values.items())) for name, values in lines.items()}
        if max(map(len, series.values())) > 1:
            title = f"kNN accuracy by k, {how}"
            drawing = line_chart(series, "percent", "k", colors=colors)
            of = images and f"{images} images"
            yield Picture(title, _ends(title, series), drawing, of, _table("k", series))


def matching_pictures(group: Summary, runs: Group) -> Iterator[Picture]:
    """The cost of each stage at the last solve, and its sum over the solves."""
    if not group["matching"]:
        return
    for stage, solves in read_matching(runs.first.path).items():
        found = group["matching"][stage]
        text = f"{stage}: {found['student_channels']} ← {found['teacher_channels']} channels"
        alt = f"Cost of {group['name']}, stage {stage}, at the last solve, sorted by group"
        yield Picture(text, alt, heat_map(solves[-1].sorted()[0]))
    costs = {name: _relative_cost(stage["solves"]) for name, stage in group["matching"].items()}
    if max(map(len, costs.values())) > 1:
        title = "Total cost, % of the first solve"
        yield Picture(title, _ends(title, costs), line_chart(costs, "percent", "solve"))


def _relative_cost(solves: Sequence[Summary]) -> Series:
    first = solves[0]["total_cost"] or 1.0
    return {float(i): 100 * s["total_cost"] / first for i, s in enumerate(solves, 1)}


def feature_picture(name: str, found: FeatureMap) -> Picture:
    """A run's features in two dimensions."""
    text = f"{found.method} of the features of {len(found.points)} images, by {found.by}"
    if found.share is not None:
        text += f"; {found.share:.1f}% of the variance"
    return Picture(name, f"{name}: {text}", scatter(found.points, found.labels, found.words), text)


def retrieval_picture(name: str, found: Retrieval) -> Picture:
    """A run's retrieval examples."""
    text = (
        "each row is a query, framed in blue with a question mark, and its nearest training images"
    )
    if found.marked:
        text += (
            ", framed in green with a check mark if they are of the same class, or in red with a "
            "cross"
        )
    return Picture(name, f"{name}: {text}", found.png, f"{text[0].upper()}{text[1:]}")


def write_pictures(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    """Write PNG files; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{picture.name}.png" for picture in pictures]
    for path, picture in zip(paths, pictures, strict=True):
        write_bytes(path, picture.png)
    return paths
