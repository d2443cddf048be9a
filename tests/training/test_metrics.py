"""Rows of metrics.jsonl, means of the losses, and the alarm on a loss that is not finite."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from mgd_ssl.errors import NonFiniteLossError
from mgd_ssl.progress import format_duration
from mgd_ssl.training.logging import MetricWriter
from mgd_ssl.training.loop import LoopConfig, seed_step
from mgd_ssl.training.meter import Meter


def _rows(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(row) for row in (directory / "metrics.jsonl").read_text().splitlines()]


def _meter(directory: Path, steps: int = 4) -> tuple[Meter, MetricWriter]:
    writer = MetricWriter(directory)
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.25)
    return Meter(2, steps, writer, optimizer), writer


def _losses(contrastive: float, matching: float) -> dict[str, Tensor]:
    return {
        "contrastive": torch.tensor(contrastive),
        "matching/layer1": torch.tensor(matching),
    }


def test_a_resumed_run_drops_the_rows_it_will_write_again(tmp_path: Path) -> None:
    writer = MetricWriter(tmp_path)
    for step in (4, 8, 12):
        writer.write(step, step / 4, {"train_loss": float(step)})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 16, "train_')  # the half row of a killed run
    writer = MetricWriter(tmp_path, keep=8)
    writer.write(12, 3.0, {"train_loss": 0.5})
    writer.close()
    assert [(row["step"], row["train_loss"]) for row in _rows(tmp_path)] == [
        (4, 4.0),
        (8, 8.0),
        (12, 0.5),
    ]


def test_rows_are_dropped_in_a_new_file_and_never_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(f'{{"step": {step}, "epoch": 1.0}}\n' for step in (4, 8, 12))
    (tmp_path / "metrics.jsonl").write_text(rows)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        MetricWriter(tmp_path, keep=8)
    assert (tmp_path / "metrics.jsonl").read_text() == rows


def test_only_the_rank_that_is_enabled_writes(tmp_path: Path) -> None:
    writer = MetricWriter(tmp_path, enabled=False)
    writer.write(1, 1.0, {"train_loss": 1.0})
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_an_epochs_row_holds_the_mean_of_each_loss_and_their_sum(tmp_path: Path) -> None:
    meter, writer = _meter(tmp_path)
    for step, pair in enumerate([(1.0, 10.0), (2.0, 20.0), (6.0, 30.0)]):
        meter.add(0, step, _losses(*pair), images=8)
    meter.finish(0, {"val_knn_top1": 50.0})
    writer.close()
    (row,) = _rows(tmp_path)
    assert row["train_loss/contrastive"] == pytest.approx(3.0)
    assert row["train_loss/matching/layer1"] == pytest.approx(20.0)
    assert row["train_loss"] == pytest.approx(23.0)
    assert (row["step"], row["epoch"], row["lr"]) == (4, 1.0, 0.25)
    assert row["val_knn_top1"] == 50.0 and row["images_per_second"] > 0
    assert 0.01 < row["peak_memory_gib"] < 1000


def test_a_loss_that_is_not_finite_raises_with_the_step_and_each_term(tmp_path: Path) -> None:
    meter, writer = _meter(tmp_path)
    meter.add(1, 2, _losses(float("nan"), 7.5), images=8)
    with pytest.raises(NonFiniteLossError) as caught:
        meter.check()
    writer.close()
    message = str(caught.value)
    assert "epoch 2, step 3" in message
    assert "contrastive nan" in message and "matching/layer1 7.5" in message
    assert "lower --lr or --mgd-strength, or, in 16 bits, give --precision 32" in message


def test_the_remedy_names_no_option_of_what_is_not_trained(tmp_path: Path) -> None:
    meter, writer = _meter(tmp_path)
    meter.add(0, 0, {"classification": torch.tensor(float("nan"))}, images=8)
    with pytest.raises(NonFiniteLossError, match="lower --lr or, in 16 bits, give --precision 32"):
        meter.check()
    writer.close()


def test_a_steps_randomness_is_a_function_of_its_position() -> None:
    draws = {}
    for position in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]:
        seed_step(*position)
        draws[position] = float(torch.rand(()))
    assert len(set(draws.values())) == 4
    seed_step(0, 0, 1)
    assert float(torch.rand(())) == draws[0, 0, 1]


def test_durations_read_as_clocks() -> None:
    assert [format_duration(s) for s in (7, 127, 3723)] == ["0:07", "2:07", "1:02:03"]


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"print_freq": 0}, {"save_every": -1}])
def test_a_run_of_no_epochs_or_of_a_broken_rhythm_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected at least 1, 1 and 0"):
        LoopConfig(**{"epochs": 1, **bad})


def _run_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    own = Path(folder) / str(rank)
    own.mkdir()
    meter, writer = _meter(own)
    meter.add(0, 0, _losses(1.0 + rank, 10.0), 4)
    meter.check()
    meter.restart(meter.summed())  # as a resumed run, which reads what the first process wrote
    meter.add(0, 1, _losses(3.0 + 2 * rank, 20.0), 4)
    meter.finish(0, {})
    writer.close()
    dist.destroy_process_group()


def test_an_epochs_losses_are_the_mean_of_both_processes(tmp_path: Path) -> None:
    mp.start_processes(_run_rank, (str(tmp_path),), nprocs=2, start_method="fork")
    for rank in (0, 1):
        (row,) = _rows(tmp_path / str(rank))
        assert row["train_loss/contrastive"] == (1.5 + 4.0) / 2
        assert (row["train_loss/matching/layer1"], row["train_loss"]) == (15.0, 17.75)
