"""Several processes, precisions, memory formats and the compiler."""

import copy
import math
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.run
from forked import called_apart
from tiny_runs import ROOT, arguments, read_last, read_rows
from torch import nn

from mgd_ssl.commands import pretrain
from mgd_ssl.settings.options import DeviceOptions
from mgd_ssl.training.devices import start_fabric, threads_of

TWO = ("--bn-splits", "1", "--accelerator", "cpu", "--epochs", "1")


def assert_trained(run: Path) -> None:
    """Finite losses, and an assignment that gives every teacher channel away once."""
    rows = [row for row in read_rows(run) if "train_loss" in row]
    assert rows and all(math.isfinite(row["train_loss"]) for row in rows)
    last = read_last(run)
    assert all(v.isfinite().all() for v in last["state_dict"].values())
    for i, channels in enumerate((16, 32, 64, 128), 1):
        owned = last["distiller"][f"assignment_layer{i}"].flatten()
        assert sorted(owned[owned >= 0].tolist()) == list(range(channels))


def free_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def torchrun(words: list[str]) -> None:
    torch.distributed.run.main(words)


def test_two_processes_through_torchrun_train_one_run(tmp_path: Path, teacher: Path) -> None:
    words = ["--nproc_per_node=2", "--master_port", free_port(), str(ROOT / "pretrain.py")]
    called_apart(torchrun, [*words, *arguments(tmp_path / "run", teacher, *TWO)])
    assert_trained(tmp_path / "run")
    assert [row["step"] for row in read_rows(tmp_path / "run")] == [0, 1, 4]  # one rank writes
    assert (tmp_path / "run" / "train.log").read_text().count("epoch 1/1 done") == 1
    assert int(read_last(tmp_path / "run")["state_dict"]["module.queue_ptr"]) == 0  # 4 × 16 keys


def test_no_devices_are_refused(
    tmp_path: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main(arguments(tmp_path / "run", teacher, "--devices", "0")) == 1
    assert "got 0 devices and 1 nodes, expected at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [("--precision", "bf16"), ("--channels-last",)], ids=["bf16", "channels_last"]
)
def test_it_trains_with(tmp_path: Path, teacher: Path, option: tuple[str, ...]) -> None:
    assert pretrain.main(arguments(tmp_path / "run", teacher, "--epochs", "1", *option)) == 0
    assert_trained(tmp_path / "run")


def test_channels_last_changes_the_order_in_memory_and_little_else(
    tmp_path: Path, teacher: Path
) -> None:
    losses = []
    for name, option in (("nchw", "--no-channels-last"), ("nhwc", "--channels-last")):
        argv = arguments(tmp_path / name, teacher, option, "--epochs", "1")
        assert pretrain.main(argv) == 0
        losses.append(read_rows(tmp_path / name)[-1]["train_loss/contrastive"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    weight = read_last(tmp_path / "nhwc")["state_dict"]["module.encoder_q.layer2.0.conv1.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_the_blocks_that_no_tap_stands_in_are_compiled(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[torch.nn.Module] = []

    def trace(module: torch.nn.Module) -> None:  # dynamo's part alone: inductor takes a minute
        compiled.append(module)
        module._compiled_call_impl = torch.compile(module._call_impl, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", trace)
    argv = ["--epochs", "1", "--limit", "32", "--moco-k", "32"]
    assert pretrain.main(arguments(tmp_path / "plain", teacher, *argv)) == 0
    assert compiled == []
    assert pretrain.main(arguments(tmp_path / "run", teacher, *argv, "--compile")) == 0
    # the first block of each stage in student and teacher, each stage of the untapped key encoder
    assert len(compiled) == 4 + 4 + 4
    assert_trained(tmp_path / "run")
    plain, run = (read_rows(tmp_path / name)[-1] for name in ("plain", "run"))
    assert run["train_loss"] == pytest.approx(plain["train_loss"], rel=1e-4)
    weights = (set(read_last(tmp_path / name)["state_dict"]) for name in ("plain", "run"))
    assert next(weights) == next(weights)


def test_auto_is_cuda_or_the_cpu_and_mps_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert start_fabric(DeviceOptions()).device.type == "cpu"
    with pytest.raises(ValueError, match=r"got mps, which has no float64.*--accelerator cpu"):
        start_fabric(DeviceOptions(accelerator="mps"))


def test_more_threads_than_the_system_bears_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"threads: got 100000, expected 1 to \d+, 16 for each core"
    ):
        threads_of(100_000)


class Seen(torch.nn.Linear):
    """Keeps what it is given."""

    def forward(self, boxes: list[torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        self.boxes, self.images = boxes, images
        self.found: torch.Tensor = super().forward(images)
        return self.found


def test_mixed_precision_computes_in_it_and_rounds_no_input() -> None:
    fabric = start_fabric(DeviceOptions(accelerator="cpu", precision="bf16"))
    seen = Seen(3, 2)
    boxes, images = [torch.tensor([[301.3, 203.7, 617.9, 401.2]])], torch.rand(4, 3)
    output = fabric.setup_module(seen)(boxes, images)
    assert seen.boxes[0] is boxes[0] and seen.images is images
    assert (seen.found.dtype, output.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("groups", [1, 64])
def test_a_convolution_whose_stride_exceeds_its_map_learns_in_bf16(groups: int) -> None:
    """Of float64's gradient; torch's own is what was in memory where only padding was seen."""
    fabric = start_fabric(DeviceOptions(accelerator="cpu", precision="bf16"))
    for size in (2_000_000, 40_000) * 20:
        torch.full((size,), math.nan)  # left in memory that is free again
    convolution = fabric.setup_module(nn.Conv2d(64, 64, 3, 2, 1, groups=groups))
    images = torch.randn(4, 64, 1, 1)
    fabric.backward(convolution(images).sum())
    wanted = nn.Conv2d(64, 64, 3, 2, 1, groups=groups, dtype=torch.float64)
    wanted(images.double()).sum().backward()
    assert wanted.weight.grad is not None
    torch.testing.assert_close(
        convolution.weight.grad.double(), wanted.weight.grad, rtol=0.02, atol=0.02
    )
    assert convolution(images).shape == (4, 64, 1, 1)


@pytest.mark.parametrize("options", [{"padding": 1}, {"padding": "valid"}, {"kernel_size": 5}])
def test_bf16_lets_no_convolution_see_what_it_refuses(options: dict[str, Any]) -> None:
    fabric = start_fabric(DeviceOptions(accelerator="cpu", precision="bf16"))
    given: dict[str, Any] = {"kernel_size": 4, "stride": 4} | options
    plain = nn.Conv2d(8, 8, **given)
    prepared = fabric.setup_module(copy.deepcopy(plain))
    for side in range(1, 9):
        images = torch.randn(2, 8, side, side)
        try:
            wanted = plain(images)
        except RuntimeError:
            with pytest.raises(RuntimeError):
                prepared(images)
        else:
            torch.testing.assert_close(prepared(images), wanted, rtol=0.05, atol=0.05)
