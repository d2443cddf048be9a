"""The solved matchings of a run: group sizes, costs, and changes between solves."""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.reporting.reading import MAX_NUMBER

Cost = NDArray[np.float64]
Assignment = NDArray[np.int64]
MAX_BYTES = 2**30  # of a file of solves, unpacked
SOLVE = re.compile(r".*epoch_(\d+)(?:_step_(\d+))?")


@dataclass(frozen=True)
class Solve:
    """The matching of one stage, as it was solved once.

    Attributes:
        when: "epoch 3" or "epoch 3, step 5": the solve took place before it.
        cost: (C_s,C_t).
        assignment: (C_s,G) teacher channels of each student channel, -1 pads.
    """

    when: str
    cost: Cost
    assignment: Assignment

    @property
    def pairs(self) -> NDArray[np.bool_]:
        """(C_s,C_t) which channels are matched with each other."""
        pairs = np.zeros(self.cost.shape, dtype=bool)
        students, _ = np.nonzero(self.assignment >= 0)
        pairs[students, self.assignment[self.assignment >= 0]] = True
        return pairs

    @property
    def total(self) -> float:
        """Summed cost of the matched pairs."""
        return float(self.cost[self.pairs].sum())

    @property
    def sizes(self) -> dict[int, int]:
        """Size of a group -> number of student channels with a group of that size."""
        sizes, counts = np.unique((self.assignment >= 0).sum(axis=1), return_counts=True)
        return dict(zip(sizes.tolist(), counts.tolist(), strict=True))

    @property
    def never_chosen(self) -> int:
        """Number of teacher channels in no group."""
        return int((~self.pairs.any(axis=0)).sum())

    def sorted(self) -> tuple[Cost, Assignment, Assignment]:
        """The cost with the members of each group next to each other.

        Returns:
            (C_s,C_t) cost, and the channels of its rows and columns. Student channels are sorted
            by the mean cost of their group; teacher channels by their group's row, the first of
            several, and then by cost, with those in no group at the end.
        """
        pairs = self.pairs
        count = pairs.sum(axis=1)
        mean = np.where(pairs, self.cost, 0).sum(axis=1) / np.maximum(count, 1)
        rows = np.argsort(np.where(count, mean, np.inf), kind="stable")
        first = pairs[rows].argmax(axis=0)  # place of each teacher channel's first student channel
        own = self.cost[rows[first], np.arange(len(first))]
        chosen = pairs.any(axis=0)
        columns = np.lexsort((own * chosen, np.where(chosen, first, len(rows))))
        return self.cost[rows][:, columns], rows, columns


def changed_share(before: Solve, after: Solve) -> float:
    """Share of teacher channels, in [0,1], matched with other student channels than before."""
    return float((before.pairs != after.pairs).any(axis=0).mean())


def read_matching(run: Path) -> dict[str, list[Solve]]:
    """Stage -> its solves in order; empty if the run solved none.

    Raises:
        ValueError: a file is damaged, or lacks a cost or an assignment.
    """
    stages: dict[str, list[Solve]] = {}
    found = [(SOLVE.fullmatch(path.stem), path) for path in (run / "matching").glob("*.npz")]
    positions = sorted((int(m[1]), int(m[2] or 0), path) for m, path in found if m)
    for epoch, step, path in positions:
        when = f"epoch {epoch}" + (f", step {step}" if step else "")
        for name, solve in _read(path, when).items():
            stages.setdefault(name, []).append(solve)
    for name, solves in stages.items():
        _check_alike(run / "matching", name, solves)
    return stages


def _check_alike(folder: Path, name: str, solves: Sequence[Solve]) -> None:
    shapes = sorted({solve.cost.shape for solve in solves})
    if len(shapes) > 1:
        raise ValueError(
            f"{folder}: stage {name} has costs of {shapes[0]} and of {shapes[1]} channels, "
            "expected those of one run; remove the files of other runs"
        )


def _read(path: Path, when: str) -> dict[str, Solve]:
    try:
        _check_size(path)
        with np.load(path, allow_pickle=False) as arrays:
            names = [key.removesuffix("/cost") for key in arrays if key.endswith("/cost")]
            if not names:
                raise ValueError("no stage")
            return {
                name: _checked(Solve(when, arrays[f"{name}/cost"], arrays[f"{name}/assignment"]))
                for name in names
            }
    except Exception as error:  # damaged archives raise anything, zlib's and struct's own too
        raise ValueError(
            f"{path}: got {error}, expected the cost and the assignment of each stage; delete the "
            "file, or leave the run out"
        ) from error


def _checked(solve: Solve) -> Solve:
    cost, assignment = solve.cost, solve.assignment
    if cost.dtype.kind not in "iuf" or assignment.dtype.kind not in "iu":
        raise ValueError(f"cost of {cost.dtype} and assignment of {assignment.dtype}")
    fits = cost.ndim == assignment.ndim == 2 and len(cost) == len(assignment)
    if (
        not fits
        or assignment.size == 0
        or not -1 <= assignment.min() <= assignment.max() < cost.shape[1]
    ):
        raise ValueError(f"cost {cost.shape} with an assignment {assignment.shape} out of range")
    if not np.isfinite(cost).all() or np.abs(cost).max() > MAX_NUMBER:
        raise ValueError("a cost that is not finite, or out of range")
    return Solve(solve.when, cost.astype(np.float64), assignment.astype(np.int64))


def _check_size(path: Path) -> None:
    """Refuse a small archive that unpacks to an enormous one."""
    if not path.is_file():
        raise OSError("not a regular file")
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MAX_BYTES:
        raise ValueError(f"arrays of {size} bytes, expected at most {MAX_BYTES}")
