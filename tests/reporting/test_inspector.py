"""The matching inspector's numbers, against a matching of two groups done by hand."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from written_runs import write_run, write_solve

from mgd_ssl.matching import assign_channels, total_cost
from mgd_ssl.reporting import group_runs, matching, read_runs, summarize
from mgd_ssl.reporting.matching import Solve, changed_share, read_matching

COST = [[9.0, 1.0, 8.0, 2.0], [1.0, 7.0, 1.5, 7.0]]
BEFORE, AFTER = [[0, 1], [2, 3]], [[1, 3], [0, 2]]


def solve(assignment: list[list[int]], cost: list[list[float]] = COST) -> Solve:
    return Solve("epoch 1", np.array(cost), np.array(assignment))


def test_the_share_that_changed_is_of_teacher_channels() -> None:
    assert solve(BEFORE).pairs.tolist() == [[True, True, False, False], [False, False, True, True]]
    assert changed_share(solve(BEFORE), solve(AFTER)) == 0.5  # 0 and 3 of four
    assert changed_share(solve(AFTER), solve(AFTER)) == 0.0


def test_sizes_and_channels_never_chosen_are_counted() -> None:
    sparse = solve([[1], [0]])
    assert (sparse.sizes, sparse.never_chosen, sparse.total) == ({1: 2}, 2, 2.0)
    padded = solve([[1, 3, 0], [2, -1, -1]])
    assert (padded.sizes, padded.never_chosen) == ({1: 1, 3: 1}, 0)
    assert padded.total == 1 + 2 + 9 + 1.5


def test_sorting_puts_the_members_of_each_group_together() -> None:
    cost, rows, columns = solve(AFTER).sorted()
    assert rows.tolist() == [1, 0]  # means 1.25 and 1.5
    assert columns.tolist() == [0, 2, 1, 3]  # each group's cheapest member first
    assert cost.tolist() == [[1.0, 1.5, 7.0, 7.0], [9.0, 8.0, 1.0, 2.0]]
    _, _, columns = solve([[1], [0]]).sorted()
    assert columns.tolist()[2:] == [2, 3]  # never chosen


def test_a_teacher_channel_that_serves_several_is_compared_with_all_of_them() -> None:
    cost = [[1.0, 9.0], [9.0, 2.0], [3.0, 9.0], [9.0, 4.0]]
    wide = solve([[0], [1], [0], [1]], cost)
    assert changed_share(wide, solve([[1], [0], [0], [1]], cost)) == 1.0
    _, rows, columns = wide.sorted()
    assert (rows.tolist(), columns.tolist()) == ([0, 1, 2, 3], [0, 1])
    assert (wide.total, wide.never_chosen) == (10.0, 0)


@pytest.mark.parametrize("mode", ["balanced", "shave", "sparse"])
def test_any_matching_is_sorted_into_blocks_and_has_the_solvers_cost(mode: str) -> None:
    cost = torch.rand(5, 17, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = assign_channels(cost, mode)  # type: ignore[arg-type]
    inspected = Solve("epoch 1", cost.numpy(), found.numpy())
    _, rows, columns = inspected.sorted()
    groups = inspected.pairs.argmax(axis=0)[columns]
    changes = int((groups[1:] != groups[:-1]).sum())
    assert changes == len(set(groups.tolist())) - 1  # as few as there can be
    assert sorted(rows.tolist()) == [*range(5)] and sorted(columns.tolist()) == [*range(17)]
    assert inspected.total == pytest.approx(float(total_cost(cost, found)))
    assert inspected.never_chosen == 17 - int((found >= 0).sum())


def test_solves_are_read_in_order_and_summed_up(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_solve(run, 10, COST, AFTER)
    write_solve(run, 2, COST, BEFORE)
    (group,) = summarize("t", group_runs(read_runs([run])))["groups"]
    stage = group["matching"]["layer1"]
    assert stage["solves"] == [
        {"before": "epoch 2", "total_cost": 18.5, "changed_percent": None},
        {"before": "epoch 10", "total_cost": 5.5, "changed_percent": 50.0},
    ]
    assert (stage["group_sizes"], stage["never_chosen"]) == ({"2": 2}, 0)


def test_a_damaged_solve_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert read_matching(run) == {}
    write_solve(run, 1, COST, [[0, 1], [2, 4]])
    with pytest.raises(ValueError, match=r"epoch_0001.npz: got .* out of range"):
        read_matching(run)
    (run / "matching" / "epoch_0001.npz").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"epoch_0001.npz: got"):
        read_matching(run)


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("layer1/cost.npy", bytes(20 * 2**20))


def saved(**arrays: Any) -> Any:
    return lambda path: np.savez(path, **{f"layer1/{k}": v for k, v in arrays.items()})


def damaged(path: Path) -> None:
    np.savez_compressed(path, **{"layer1/cost": np.ones((9, 9)), "layer1/assignment": np.eye(9)})
    content = bytearray(path.read_bytes())
    content[70:90] = bytes(20)
    path.write_bytes(content)


GOOD = {"cost": np.array(COST), "assignment": np.array(AFTER)}


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            saved(cost=np.array([[{}]]), assignment=np.array([[0]])),
            "Object arrays cannot be loaded",
        ),
        (saved(cost=np.array([["a"]]), assignment=np.array([[0]])), "cost of <U1 and assignment"),
        (saved(**GOOD | {"assignment": np.array(AFTER) + 0.5}), "assignment of float64"),
        (saved(**GOOD | {"cost": np.array(COST) * np.nan}), "a cost that is not finite"),
        (saved(**GOOD | {"cost": np.array(COST) * 1e200}), "out of range"),
        (saved(**GOOD | {"cost": np.array(COST)[0]}), "out of range"),
        (saved(cost=np.array(COST)), "assignment"),
        (saved(other=np.ones(1)), "no stage"),
        (damaged, "epoch_0001"),
        (bomb, "arrays of 20971520 bytes, expected at most 1048576"),
        (lambda path: path.mkdir(), "not a regular file"),
    ],
)
def test_a_solve_that_holds_something_else_is_named(
    tmp_path: Path, write: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "MAX_BYTES", 2**20)
    run = write_run(tmp_path / "run")
    (run / "matching").mkdir()
    write(run / "matching" / "epoch_0001.npz")
    with pytest.raises(ValueError, match=f"epoch_0001.npz: got .*{message}|{message}.*delete the"):
        read_matching(run)


def test_solves_of_two_runs_in_one_folder_are_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_solve(run, 1, COST, AFTER)
    write_solve(run, 2, [[1.0, 2.0]], [[0, 1]])
    with pytest.raises(ValueError, match=r"layer1 has costs of \(1, 2\) and of \(2, 4\) channels"):
        read_matching(run)
