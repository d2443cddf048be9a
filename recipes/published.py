"""What the published experiments share: a run of the command, and its figures beside the paper's.

Source of the figures: Yue, Deng, Zhou, Matching Guided Distillation, ECCV 2020, arXiv 2008.09958.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mgd_ssl.commands import classify

Errors = tuple[float, float]


def train(arguments: Sequence[str], out: Path) -> Errors | None:
    """Train a classifier, or go on with it; top-1 and top-5 error in percent of its last epoch.

    Returns:
        None in every process but the first, which writes the figures.

    Raises:
        SystemExit: the command ended with an error.
    """
    if status := classify.main([*arguments, "--out", str(out), "--resume"]):
        raise SystemExit(status)
    if int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))):
        return None
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    last = next(row for row in reversed(rows) if "val_top1" in row)
    return 100 - last["val_top1"], 100 - last["val_top5"]


def table(measured: Mapping[str, Errors | None], published: Mapping[str, Errors | None]) -> str:
    """Markdown: top-1/top-5 error of each network, measured and published."""
    lines = ["| top-1/top-5 error, % | measured | published |", "|---|---|---|"]
    lines += [f"| {n} | {_cell(e)} | {_cell(published.get(n))} |" for n, e in measured.items()]
    return "\n".join(lines)


def _cell(errors: Errors | None) -> str:
    return "{:.2f}/{:.2f}".format(*errors) if errors else "none"
