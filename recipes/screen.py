"""One screen of docs/log.md: objectives with and without the matching, one seed, a short budget.

    python recipes/screen.py FOLDER_OF_IDX_FILES TEACHER

FOLDER holds Fashion-MNIST's four IDX files, TEACHER is any checkpoint that is far ahead of the
student. Every row has the same student, images, views, epochs and optimiser. A run whose results
exist is not repeated.
"""

import argparse
from pathlib import Path
from typing import Any

from fashion_mnist import MOCO, NETWORK, VIEWS
from tables import Row, evaluate, markdown, run_rows

from mgd_ssl.commands import pretrain

KS = (20,)
COLUMNS = {"knn20": "kNN, k 20", "linear": "linear"}
METHODS = ("simreg", "seed", "compress", "disco")


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/screen"))
    parser.add_argument("--images", type=int, default=12000)
    parser.add_argument("--epochs", default="6")
    parser.add_argument("--rows", nargs="*", help="run these rows alone")
    options = parser.parse_args()

    def measure(name: str, checkpoint: Path) -> dict[str, float]:
        out = options.out / f"{name}.part.json"
        return evaluate(checkpoint, options.data, out, options.images, 32, KS)

    def run(row: Row, seed: int) -> dict[str, Any]:
        out = options.out / row.name
        arguments = [str(options.data), "--limit", str(options.images), "--size", "32"]
        arguments += ["--epochs", options.epochs, "-b", "128", "--lr", "0.06", "--knn-every", "0"]
        arguments += [*NETWORK, *MOCO, *VIEWS, "--seed", str(seed), "--out", str(out), "--resume"]
        if status := pretrain.main([*arguments, *row.options]):
            raise SystemExit(status)
        return measure(row.name, out / "student.safetensors")

    done = run_rows(
        [Row("teacher", ())], lambda row, _: measure(row.name, options.teacher), options.out
    )
    table = [r for r in rows(options.teacher) if not options.rows or r.name in options.rows]
    text = markdown(done | run_rows(table, run, options.out), COLUMNS, of="teacher")
    print(text)
    (options.out / "table.md").write_text(text)


def rows(teacher: Path) -> list[Row]:
    """The student alone, matching alone, each objective, and both: side by side, handed over."""
    given = ("--teacher", str(teacher))
    mgd = (*given, "--method", "mgd", "--mgd-loss-factor", "100")
    both = (*given, "--method", "simreg", "--mgd-start")  # SimReg's loss begins near 2
    return [
        Row("alone", ("--method", "moco")),
        Row("mgd", mgd),
        Row("matching alone", (*mgd, "--objective-weight", "0")),
        *(Row(method, (*given, "--method", method)) for method in METHODS),
        Row("simreg + matching", (*both, "0.25")),
        Row("simreg, handed over", (*both, "0.5", "--mgd-fade", "1", "4")),
    ]


if __name__ == "__main__":
    main()
