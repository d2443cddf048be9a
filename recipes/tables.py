"""What the recipes share: runs that are not repeated where their results exist, and tables."""

import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mgd_ssl.evaluation.results import write_json
from mgd_ssl.runs import knn, linear
from mgd_ssl.settings.evaluation import KnnConfig, LinearEvalConfig
from mgd_ssl.settings.parsing import parse

Results = dict[str, list[dict[str, Any]]]
ACCURACIES = {"knn20": "kNN, k 20", "linear": "linear"}  # of `evaluate`, as columns


@dataclass(frozen=True)
class Row:
    """A row of a table: its name, the options of its runs, and their seeds."""

    name: str
    options: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)


def run_rows(rows: Sequence[Row], run: Callable[[Row, int], dict[str, Any]], out: Path) -> Results:
    """Run what is missing: a seed of every row before the next seed, so that early results compare.

    Args:
        rows: of the table.
        run: a row and a seed -> figures.
        out: folder that keeps the figures of each run as JSON.
    """
    done: Results = {row.name: [] for row in rows}
    for seed in sorted({seed for row in rows for seed in row.seeds}):
        for row in (row for row in rows if seed in row.seeds):
            path = out / f"{row.name}-{seed}.json"
            if not path.exists():
                started = time.monotonic()
                result = run(row, seed) | {"seconds": time.monotonic() - started}
                result |= {"threads": torch.get_num_threads(), "machine": platform.machine()}
                write_json(path, result)
            done[row.name].append(json.loads(path.read_text()))
    return done


def split_extra(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """A recipe's own options, and those after ``--``, which are passed on to the command."""
    words = list(argv)
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


def run_command(command: Callable[[Sequence[str]], int], words: Sequence[str]) -> None:
    """Run a command; an error ends the recipe with the command's status."""
    if status := command(words):
        raise SystemExit(status)


def last_row(out: Path) -> dict[str, Any]:
    """The figures of the last epoch of the run in a directory."""
    rows = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return dict(json.loads(rows[-1]))


def last_figures(out: Path, names: Iterable[str]) -> dict[str, Any]:
    """Some figures of the last epoch of the run in a directory."""
    row = last_row(out)
    return {name: row[name] for name in names}


def print_and_write(text: str, path: Path) -> None:
    """Print a table, and write it to a file."""
    print(text)
    path.write_text(text, encoding="utf-8")


def evaluate(
    checkpoint: Path,
    data: Path,
    out: Path,
    images: int,
    size: int,
    ks: Sequence[int],
    more: Sequence[str] = (),
) -> dict[str, float]:
    """kNN (T 0.1) and linear (cached protocol) top-1 of a checkpoint over all test images.

    Args:
        checkpoint: of a backbone.
        data: labeled folder with train and val parts.
        out: JSON file; each evaluator writes one beside it, NAME-knn.json and NAME-linear.json.
        images: training images, at most, in the bank and for the probe.
        size: side of the images in pixels.
        ks: neighbors that vote.
        more: options of both evaluators.
    """
    given = [str(checkpoint), str(data), "--limit", str(images), "--size", str(size)]
    given += more
    near = [*given, "--out", str(out.with_stem(f"{out.stem}-knn"))]
    near += ["--knn-t", "0.1", "--knn-k", *map(str, ks)]
    probed = [*given, "--out", str(out.with_stem(f"{out.stem}-linear"))]
    votes = knn.run(parse(KnnConfig, "knn_eval.py", near))
    probe = linear.run(parse(LinearEvalConfig, "linear_eval.py", probed))
    return {f"knn{row['k']}": row["top1"] for row in votes["knn"]} | {"linear": probe["top1"]}


def markdown(
    done: Results, columns: Mapping[str, str], first: str = "student", of: str | None = None
) -> str:
    """Mean and, where there are several seeds, standard deviation.

    Args:
        done: figures of each run of each row.
        columns: key of a figure -> heading.
        first: heading of the rows' names.
        of: a row of which the others are given in percent too, in every figure that it has.
    """
    shares = {column for column in columns if of is not None and column in done[of][0]}
    headings = [first, "seeds"]
    for column, heading in columns.items():
        headings += [heading, f"% of {of}"] if column in shares else [heading]
    lines = ["| " + " | ".join([*headings, "s"]) + " |", "|---" * (len(headings) + 1) + "|"]
    for name, results in done.items():
        cells = [name, str(len(results))]
        for column in columns:
            cells.append(mean_and_spread([r[column] for r in results if column in r]))
            if of is not None and column in shares:
                cells.append(f"{100 * _mean(results, column) / _mean(done[of], column):.1f}")
        lines.append("| " + " | ".join([*cells, f"{_mean(results, 'seconds'):.0f}"]) + " |")
    return "\n".join(lines) + "\n"


def _mean(results: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(statistics.mean(r[key] for r in results))


def mean_and_spread(values: Sequence[float]) -> str:
    """``70.65 ± 0.29``: the mean and, of several values, the standard deviation."""
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"
