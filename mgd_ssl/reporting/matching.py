"""The matching inspector: what the solves of a run chose, in numbers."""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.reporting.reading import BEYOND

Cost = NDArray[np.float64]
Assignment = NDArray[np.int64]
LARGEST = 2**30  # bytes of a file of solves, unpacked
SOLVE = re.compile(r"epoch_(\d+)(?:_step_(\d+))?$")


@dataclass(frozen=True)
class Solve:
    """One stage at one solve.

    Attributes:
        when: "epoch 3", or "epoch 3, step 5": before which it was.
        cost: (C_s,C_t).
        assignment: (C_s,G) teacher channels of each student channel, -1 pads.
    """

    when: str
    cost: Cost
    assignment: Assignment

    @property
    def owners(self) -> Assignment:
        """(C_t,) student channel that each teacher channel belongs to, -1 where to none."""
        owners = np.full(self.cost.shape[1], -1, dtype=np.int64)
        students, _ = np.nonzero(self.assignment >= 0)
        owners[self.assignment[self.assignment >= 0]] = students
        return owners

    @property
    def total(self) -> float:
        """Summed cost of all pairs."""
        students, _ = np.nonzero(self.assignment >= 0)
        return float(self.cost[students, self.assignment[self.assignment >= 0]].sum())

    @property
    def sizes(self) -> dict[int, int]:
        """Size of a group -> how many student channels have one of that size."""
        sizes, counts = np.unique((self.assignment >= 0).sum(axis=1), return_counts=True)
        return dict(zip(sizes.tolist(), counts.tolist(), strict=True))

    @property
    def never_chosen(self) -> int:
        """Teacher channels in no group."""
        return int((self.owners < 0).sum())

    def sorted(self) -> tuple[Cost, Assignment, Assignment]:
        """The cost with each group's members side by side.

        Returns:
            (C_s,C_t) cost, and the channels that its rows and columns are: student channels by
            what their group costs a member, cheapest first; teacher channels by their group's
            row, cheapest member first, those in no group at the end.
        """
        member = np.zeros(self.cost.shape, dtype=bool)
        owners = self.owners
        chosen = np.nonzero(owners >= 0)[0]
        member[owners[chosen], chosen] = True
        count = member.sum(axis=1)
        mean = np.where(member, self.cost, 0).sum(axis=1) / np.maximum(count, 1)
        rows = np.argsort(np.where(count, mean, np.inf), kind="stable")
        place = np.empty_like(rows)
        place[rows] = np.arange(len(rows))
        group = np.where(owners < 0, len(rows), place[owners])
        own = self.cost[owners, np.arange(len(owners))]
        columns = np.lexsort((own, group))
        return self.cost[rows][:, columns], rows, columns


def changed_share(before: Solve, after: Solve) -> float:
    """Share of teacher channels, in [0,1], that belong to another student channel than before."""
    return float((before.owners != after.owners).mean())


def read_matching(run: Path) -> dict[str, list[Solve]]:
    """Stage -> its solves in order; empty where the run solved none.

    Raises:
        ValueError: a file is damaged, or holds no cost and assignment.
    """
    stages: dict[str, list[Solve]] = {}
    files = [p for p in (run / "matching").glob("*.npz") if SOLVE.search(p.stem)]
    for path in sorted(files, key=_position):
        for name, solve in _read(path).items():
            stages.setdefault(name, []).append(solve)
    for name, solves in stages.items():
        _check_alike(run / "matching", name, solves)
    return stages


def _check_alike(folder: Path, name: str, solves: Sequence[Solve]) -> None:
    shapes = sorted({solve.cost.shape for solve in solves})
    if len(shapes) > 1:
        raise ValueError(
            f"{folder}: stage {name} has costs of {shapes[0]} and of {shapes[1]} channels, "
            "expected those of one run; take the files of another run out"
        )


def _position(path: Path) -> tuple[int, int]:
    epoch, step = _digits(path)
    return int(epoch), int(step or 0)


def _digits(path: Path) -> tuple[str, str | None]:
    found = SOLVE.search(path.stem)
    assert found is not None  # the files were chosen by it
    return found[1], found[2]


def _read(path: Path) -> dict[str, Solve]:
    epoch, step = _digits(path)
    when = f"epoch {int(epoch)}" + (f", step {int(step)}" if step else "")
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
    if not np.isfinite(cost).all() or np.abs(cost).max() > BEYOND:
        raise ValueError("a cost that is not finite, or beyond all bounds")
    return Solve(solve.when, cost.astype(np.float64), assignment.astype(np.int64))


def _check_size(path: Path) -> None:
    """Refuse a small archive that unpacks to more memory than there is."""
    if not path.is_file():
        raise OSError("no regular file")
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > LARGEST:
        raise ValueError(f"arrays of {size} bytes, expected {LARGEST} at most")
