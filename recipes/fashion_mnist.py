"""The table of docs/results.md: reducers and seeds on Fashion-MNIST, against the student alone.

    python recipes/fashion_mnist.py FOLDER_OF_IDX_FILES

FOLDER holds Fashion-MNIST's four IDX files. Every run has the same network, images, views and
epochs. A run whose results exist is not repeated, so that the recipe may be stopped and started.
"""

import argparse
import json
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mgd_ssl.commands import knn_eval, linear_eval, pretrain
from mgd_ssl.commands.options import parse
from mgd_ssl.commands.pretrain_config import EMBEDDED_TEACHER
from mgd_ssl.evaluation import write_json

VIEWS = ["--preset", "small", "--crop-min", "0.5", "--jitter-hue", "0"]
VIEWS += ["--jitter-saturation", "0", "--grey-p", "0"]
NETWORK = ["-a", "resnet18", "--width", "0.125", "--stem", "small", "--stem-stride", "2"]
MOCO = ["--moco-k", "4096", "--moco-m", "0.99", "--moco-t", "0.1", "--wd", "5e-4"]
KS = (20, 200)


@dataclass(frozen=True)
class Row:
    """A row of the table: a method, its options, and the seeds it is run with."""

    name: str
    options: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)


def rows(teacher: Path, seeds: int, factor: str) -> list[Row]:
    """The student alone and absolute max pooling with every seed, each other reducer with one."""
    many = tuple(range(seeds))
    distil = ("--method", "mgd", "--teacher", str(teacher), "--mgd-loss-factor", factor)
    distil += ("--mgd-reducer",)
    return [
        Row("alone", ("--method", "moco"), many),
        Row("amp", (*distil, "amp"), many),
        *(Row(reducer, (*distil, reducer)) for reducer in ("sp", "sp_avg", "rd", "sm")),
    ]


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/fashion_mnist"))
    parser.add_argument("--teacher", type=Path, default=EMBEDDED_TEACHER)
    parser.add_argument("--images", type=int, default=12000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--factor", default="100", help="--mgd-loss-factor")
    parser.add_argument("--rows", nargs="*", help="run these rows alone, to share the work out")
    options = parser.parse_args()
    done = {"teacher": [evaluate("teacher", options.teacher, options)]}
    # A seed of every method before the next seed: what is there early can be compared.
    table = rows(options.teacher, options.seeds, options.factor)
    table = [row for row in table if not options.rows or row.name in options.rows]
    for seed in range(options.seeds):
        for row in (row for row in table if seed in row.seeds):
            done.setdefault(row.name, []).append(run_once(row, seed, options))
    text = markdown(done)
    print(text)
    (options.out / "table.md").write_text(text)


def run_once(row: Row, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train one student, unless it was, and evaluate it."""
    name = f"{row.name}-{seed}"
    run = options.out / name
    started = time.monotonic()
    if not (options.out / f"{name}.json").exists():
        arguments = [str(options.data), "--limit", str(options.images), "--size", "32"]
        arguments += ["--epochs", str(options.epochs), "-b", "128", "--lr", "0.06"]
        arguments += [*NETWORK, *MOCO, *VIEWS, "--knn-every", "0", "--seed", str(seed)]
        arguments += ["--out", str(run), "--resume", *row.options]
        if status := pretrain.main(arguments):
            raise SystemExit(status)
    return evaluate(name, run / "student.safetensors", options, time.monotonic() - started)


def evaluate(
    name: str, checkpoint: Path, options: argparse.Namespace, seconds: float = 0.0
) -> dict[str, Any]:
    """kNN and linear accuracy over all test images; read from the file where it exists."""
    path = options.out / f"{name}.json"
    if not path.exists():
        arguments = [str(checkpoint), str(options.data), "--limit", str(options.images)]
        arguments += ["--size", "32", "--out", str(options.out / f"{name}.part.json")]
        knn = [*arguments, "--knn-t", "0.1", "--knn-k", *map(str, KS)]
        near = knn_eval.run(parse(knn_eval.KnnConfig, "knn_eval.py", knn))
        probe = linear_eval.run(parse(linear_eval.LinearEvalConfig, "linear_eval.py", arguments))
        result = {f"knn{row['k']}": row["top1"] for row in near["knn"]}
        result |= {"linear": probe["top1"], "seconds": seconds, "threads": torch.get_num_threads()}
        write_json(path, result | {"machine": platform.processor() or platform.machine()})
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def markdown(done: dict[str, list[dict[str, Any]]]) -> str:
    """Mean and, where there are several seeds, standard deviation; per cent of the teacher."""
    columns = [f"knn{k}" for k in KS] + ["linear"]
    heads = [f"kNN, k {k}" for k in KS] + ["linear"]
    lines = ["| student | seeds | " + " | ".join(f"{h} | % of teacher" for h in heads) + " | s |"]
    lines += ["|---|---|" + "---|---|" * len(columns) + "---|"]
    teacher = done["teacher"][0]
    for name, results in done.items():
        cells = []
        for column in columns:
            values = [r[column] for r in results]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            mean = statistics.mean(values)
            cells += [f"{mean:.2f}{spread}", f"{100 * mean / teacher[column]:.1f}"]
        seconds = f"{statistics.mean(r['seconds'] for r in results):.0f}"
        lines.append(f"| {name} | {len(results)} | " + " | ".join(cells) + f" | {seconds} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
