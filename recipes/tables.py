"""What the recipes share: runs that are not repeated where their results exist, and tables."""

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mgd_ssl.evaluation import write_json

Results = dict[str, list[dict[str, Any]]]


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


def markdown(done: Results, columns: Mapping[str, str], first: str = "student") -> str:
    """Mean and, where there are several seeds, standard deviation.

    Args:
        done: figures of each run of each row.
        columns: key of a figure -> heading.
        first: heading of the rows' names.
    """
    lines = ["| " + " | ".join([first, "seeds", *columns.values(), "s"]) + " |"]
    lines += ["|---" * (len(columns) + 3) + "|"]
    for name, results in done.items():
        cells = [_cell([r[c] for r in results if c in r]) for c in columns]
        seconds = f"{statistics.mean(r['seconds'] for r in results):.0f}"
        lines.append(f"| {name} | {len(results)} | " + " | ".join(cells) + f" | {seconds} |")
    return "\n".join(lines) + "\n"


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"
