"""The main job on the embedded data: teacher, distilled students and student alone in a table.

Run by `make demo`. The students have the same network, images, seeds and epochs.
"""

import argparse
import time
from pathlib import Path
from statistics import mean
from typing import Any

from tables import Results, mean_and_spread, run_command

from mgd_ssl.commands import pretrain
from mgd_ssl.evaluation.results import print_table, write_json
from mgd_ssl.runs import knn, linear
from mgd_ssl.settings.evaluation import KnnConfig, LinearEvalConfig
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import EMBEDDED_TEACHER

K, TEMPERATURE = 20, 0.1
STUDENTS = {
    "student, mgd-plus": "mgd-plus",
    "student, mgd of 2021": "mgd",
    "student, simreg": "simreg",
    "student, alone (moco)": "moco",
}


def main() -> None:
    """Train the students, evaluate all networks, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--epochs", default="2", help="epochs of each student")
    parser.add_argument("--seeds", type=int, default=2, help="students of each kind")
    options = parser.parse_args()
    started = time.monotonic()
    found = {"teacher": [evaluate(EMBEDDED_TEACHER, options.out)]}
    for name, method in STUDENTS.items():
        found[name] = [train(method, seed, options) for seed in range(options.seeds)]
    rows = [{"network": name} | in_words(found, name) for name in found]
    print_table("Top-1 accuracy on the embedded sample of Fashion-MNIST, percent", rows)
    print(
        f"{options.epochs} epochs, mean ± standard deviation of {options.seeds} seeds; "
        "one seed's error over 1,000 val images is about a point.\n"
        f"kNN: k {K}, T {TEMPERATURE}. Linear: cached protocol. {time.monotonic() - started:.0f} s"
    )
    print(f"written: {write_json(options.out / 'table.json', {'runs': found})}")


def train(method: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of a new student, and the seconds that its training took."""
    run: Path = options.out / f"{method}-{seed}"
    arguments = ["--method", method, "--epochs", options.epochs, "--seed", str(seed)]
    started = time.monotonic()
    run_command(pretrain.main, [*arguments, "--out", str(run), "--overwrite"])
    seconds = time.monotonic() - started
    return evaluate(run / "student.safetensors", options.out) | {"seconds": seconds}


def in_words(found: Results, name: str) -> dict[str, str]:
    """The cells of a network's row."""
    cells = {}
    for figure in ("kNN", "linear"):
        values, of = ([run[figure] for run in found[key]] for key in (name, "teacher"))
        share = 100 * mean(values) / mean(of)
        cells[f"{figure} (% of teacher)"] = f"{mean_and_spread(values)} ({share:.1f})"
    seconds = [run["seconds"] for run in found[name] if "seconds" in run]
    return cells | {"training, s": f"{mean(seconds):.0f}" if seconds else ""}


def evaluate(checkpoint: Path, out: Path) -> dict[str, Any]:
    """kNN and linear top-1 of a checkpoint."""
    name = checkpoint.parent.name
    near = [str(checkpoint), "--out", str(out / f"{name}-knn.json")]
    near += ["--knn-k", str(K), "--knn-t", str(TEMPERATURE)]
    votes = knn.run(parse(KnnConfig, "knn_eval.py", near))
    probed = [str(checkpoint), "--out", str(out / f"{name}-linear.json")]
    probe = linear.run(parse(LinearEvalConfig, "linear_eval.py", probed))
    return {"kNN": votes["knn"][0]["top1"], "linear": probe["top1"]}


if __name__ == "__main__":
    main()
