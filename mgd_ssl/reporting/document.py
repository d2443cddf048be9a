"""The sections of a report, from its numbers and its pictures."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from mgd_ssl.reporting.blocks import Block, Command, Picture, Section, Table, Words, cell
from mgd_ssl.reporting.charts import line_chart, scatter
from mgd_ssl.reporting.features import FeatureMap
from mgd_ssl.reporting.groups import Group
from mgd_ssl.reporting.inspector import inspect_matching
from mgd_ssl.reporting.reading import is_number
from mgd_ssl.reporting.runs import Series

Summary = Mapping[str, Any]
ROLES = {
    "distilled": "distilled",
    "baseline": "baseline",
    "alone": "without a teacher",
}
FIGURE_WORDS = {
    "val_knn_top1": "kNN accuracy",
    "val_top1": "Top-1 accuracy",
    "val_top5": "Top-5 accuracy",
    "val_AP": "Average precision",
}
HEALTH = {
    "health/effective_rank": ("Effective rank of the features", "dimensions"),
    "health/deviation": ("Mean deviation of a feature", "deviation"),
    "health/neighbour_overlap": ("Neighbours shared with the teacher", "share"),
    "health/cka": ("Linear CKA with the teacher", "CKA"),
}


def build_sections(summary: Summary, groups: Sequence[Group]) -> list[Section]:
    """Every section that needs no network to be run."""
    found = summary["groups"]
    return [
        Section("Side by side", [*_side_by_side(found)]),
        Section("Evaluations", [*_results(found)]),
        Section("As training went", [*_training(found)]),
        Section("Health", [*_health(found)]),
        Section("Speed and memory", [*_speed(found)]),
        Section("Matching", [*inspect_matching(found, groups)]),
        Section("Reproduce", [*_reproduce(summary["runs"])]),
    ]


def plus_minus(spread: Mapping[str, Any] | None) -> str:
    """``79.40 ± 0.12``; without the second where there is one run."""
    if spread is None:
        return "–"
    std = spread["std"]
    return f"{spread['mean']:.2f}" + ("" if std is None else f" ± {std:.2f}")


def _side_by_side(groups: Sequence[Summary]) -> Iterator[Block]:
    header = ["runs", "is", "seeds", "counted", "figure, %", "teacher", "student", "% of teacher"]
    rows = []
    for group in groups:
        figure = group["figure"]
        count = figure["student"]["runs"] if figure["student"] else None
        parts = [plus_minus(figure[k]) for k in ("teacher", "student", "percent_of_teacher")]
        seeds = ", ".join(map(str, group["seeds"]))
        rows.append(
            [group["name"], ROLES[group["role"]], seeds, cell(count), figure["name"], *parts]
        )
    caption = "Validation figure at the end of training: mean ± standard deviation over seeds"
    yield Table(caption, header, rows)
    unknown = [g["name"] for g in groups if not g["figure"]["student"]]
    if unknown:
        yield Words(f"No validation figure was measured in training: {', '.join(unknown)}.")
    twice = [g["name"] for g in groups if len(set(g["seeds"])) < len(g["seeds"])]
    if twice:
        yield Words(f"Runs of the same seed are counted one by one: {', '.join(twice)}.")
    yield _settings(groups)


def _settings(groups: Sequence[Summary]) -> Table:
    """Settings down, groups across; those that no group has are left out."""
    names = [k for k in groups[0]["settings"] if any(g["settings"][k] is not None for g in groups)]
    rows = [[name, *(_setting(name, g) for g in groups)] for name in names]
    return Table("Settings", ["setting", *(g["name"] for g in groups)], rows)


def _setting(name: str, group: Summary) -> str:
    value = group["settings"][name]
    return "embedded images" if name == "data" and value is None else cell(value)


def _results(groups: Sequence[Summary]) -> Iterator[Block]:
    rows = []
    for group in groups:
        for r in group["results"]:
            settings = ", ".join(_result_settings(r["settings"]))
            versions = ", ".join(f"{k} {v}" for k, v in r["versions"].items())
            figures = [
                plus_minus(r["top1"]),
                plus_minus(r["top5"]),
                cell_percent(r["teacher_top1"]),
            ]
            figures += [plus_minus(r["percent_of_teacher"]), cell(r["top1"]["runs"])]
            rows.append(
                [group["name"], r["protocol"], *figures, r["checkpoint"], settings, versions]
            )
    if not rows:
        yield Words(
            "No result of knn_eval.py or linear_eval.py is in the runs: measure RUN/checkpoints/"
            "last.pt with them, and write the report again."
        )
        return
    for name, warning in dict.fromkeys(
        (g["name"], warning) for g in groups for r in g["results"] for warning in r["warnings"]
    ):
        yield Words(f"Doubtful result of {name}: {warning}.")
    header = ["runs", "protocol", "top-1, %", "top-5, %", "teacher's top-1", "% of teacher"]
    header += ["results", "checkpoint", "settings", "versions"]
    yield Table("Results of knn_eval.py and linear_eval.py", header, rows)
    without = [g["name"] for g in groups if not g["results"]]
    if without:
        yield Words(f"Without such results: {', '.join(without)}.")


def _result_settings(settings: Mapping[str, Any]) -> Iterator[str]:
    """Settings of a result; of images, how many were read of how many."""
    for name, value in settings.items():
        missing = settings.get(name.replace("_images", "_unreadable"), 0)
        if name.endswith("_images") and is_number(value) and is_number(missing) and missing:
            yield f"{name} {value} of {value + missing}"
        else:
            yield f"{name} {cell(value)}"


def cell_percent(value: float | None) -> str:
    """Two places, as in the JSON."""
    return "–" if value is None else f"{value:.2f}"


def _training(groups: Sequence[Summary]) -> Iterator[Block]:
    names = dict.fromkeys(n for g in groups for n in g["series"] if n.startswith("val_"))
    for name in names:
        if name.endswith("percent_of_teacher"):
            continue  # the next chart has it of every kind of run
        levels = [g["figure"]["teacher"]["mean"] for g in groups if _is_figure(g, name)]
        lines = {g["name"]: g["series"][name] for g in groups if name in g["series"]}
        yield from _chart(FIGURE_WORDS.get(name, name), "per cent", lines, next(iter(levels), None))
    lines = {g["name"]: g["percent_of_teacher"] for g in groups}
    if any(lines.values()):
        yield from _chart("Validation figure, of the teacher's", "per cent", lines, 100.0)
    else:
        yield Words(
            "The teacher's accuracy was not measured, so no percentage of the teacher can be given."
        )
    for group in groups:
        yield from _chart(f"Loss terms of {group['name']}", "loss", group["losses"])


def _is_figure(group: Summary, name: str) -> bool:
    return bool(group["figure"]["metric"] == name and group["figure"]["teacher"])


def _health(groups: Sequence[Summary]) -> Iterator[Block]:
    names = dict.fromkeys(n for g in groups for n in g["series"] if n.startswith("health/"))
    for name in names:
        lines = {g["name"]: g["series"][name] for g in groups if name in g["series"]}
        what, unit = HEALTH.get(name, (name, ""))
        yield from _chart(what, unit, lines)
    without = [g["name"] for g in groups if not any(n in g["series"] for n in names)]
    if without:
        yield Words(f"Health was not measured in training: {', '.join(without)}.")


def _chart(
    what: str, unit: str, lines: Mapping[str, Any], level: float | None = None
) -> Iterator[Block]:
    """A chart of label -> pairs of epoch and value, and its numbers folded beneath."""
    series: dict[str, Series] = {k: dict(pairs) for k, pairs in lines.items() if pairs}
    if not series:
        return
    ends = ", ".join(f"{k} {cell([*s.values()][-1])}" for k, s in series.items())
    svg = line_chart(what, f"{what} over epochs; at the end: {ends}", series, unit, level=level)
    yield Picture(f"{what} over epochs; mean over seeds.", svg)
    epochs = sorted({e for s in series.values() for e in s})
    rows = [[cell(e), *(cell(s.get(e)) for s in series.values())] for e in epochs]
    yield Table(what, ["epoch", *series], rows, folded=True)


def _speed(groups: Sequence[Summary]) -> Iterator[Block]:
    names = ("images_per_second", "peak_memory_gib")
    rows = [[g["name"], *(plus_minus(g[name]) for name in names)] for g in groups]
    caption = "Training images a second, median over epochs, and the first process's peak memory"
    yield Table(caption, ["runs", "images/s", "GiB"], rows)


def _reproduce(runs: Sequence[Summary]) -> Iterator[Block]:
    header = ["run", "of", "seed", "epochs", "state", "figure, %", "of val images"]
    header += ["% of teacher", "images/s"]
    rows = []
    for r in runs:
        state = "finished" if r["finished"] else "in progress, or stopped"
        figures = [cell_percent(r["figure"]), _images(r)]
        figures += [cell_percent(r[k]) for k in ("percent_of_teacher", "images_per_second")]
        epochs = f"{r['epoch']} of {r['epochs']}"
        rows.append([r["path"], r["group"], cell(r["seed"]), epochs, state, *figures])
    yield Table("Every run", header, rows)
    for note in (note for r in runs for note in r["left_out"]):
        yield Words(f"Left out: {note}.")
    for r in runs:
        yield Command(r["reproduce"])


def _images(run: Summary) -> str:
    """Images that a figure is over; ``98 of 100`` where two could not be decoded."""
    count, missing = run["val_images"], run["val_unreadable"]
    return f"{count} of {count + missing}" if count is not None and missing else cell(count)


def map_block(name: str, found: FeatureMap) -> Picture:
    """A run's features in two dimensions."""
    text = f"{name}: {found.method} of the features of {len(found.points)} images, by {found.by}"
    if found.share is not None:
        text += f"; {found.share:.1f} % of the variance"
    svg = scatter(f"map {name}", text, found.points, found.labels, found.words)
    return Picture(f"{text}.", svg)


def retrieval_block(name: str, png: bytes) -> Picture:
    """A run's retrieval examples."""
    text = (
        f"{name}: each row a query, framed blue with a question mark, then its nearest training "
        "images; right ones green with a check mark, wrong ones red with a cross"
    )
    data = base64.b64encode(png).decode()
    markup = f'<img alt="{escape(text, quote=True)}" src="data:image/png;base64,{data}">'
    return Picture(f"{text}.", markup)
