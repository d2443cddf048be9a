"""The main job on the embedded data: teacher, distilled students and student alone in a table.

Run by `make demo`. The students have the same network, images, views, seed and epochs.
"""

import argparse
import time
from pathlib import Path
from typing import Any

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
    parser.add_argument("--epochs", default="6", help="epochs of each student")
    options = parser.parse_args()
    started = time.monotonic()
    networks = {"teacher": EMBEDDED_TEACHER}
    for name, method in STUDENTS.items():
        run = options.out / method
        arguments = ["--method", method, "--epochs", options.epochs]
        arguments += ["--out", str(run), "--overwrite"]
        if status := pretrain.main(arguments):
            raise SystemExit(status)
        networks[name] = run / "student.safetensors"
    rows = [{"network": name, **evaluate(path, options.out)} for name, path in networks.items()]
    for row in rows:
        row["kNN, % of teacher"] = 100 * row["kNN"] / rows[0]["kNN"]
        row["linear, % of teacher"] = 100 * row["linear"] / rows[0]["linear"]
    print_table("Top-1 accuracy on the embedded sample of Fashion-MNIST, percent", rows)
    print(
        f"kNN: k {K}, T {TEMPERATURE}. Linear: cached protocol. {time.monotonic() - started:.0f} s"
    )
    print(f"written: {write_json(options.out / 'table.json', {'rows': rows})}")


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
