"""A dry run says what a run would cost, and leaves nothing behind."""

import re
from pathlib import Path

import pytest
import torch
from tiny_runs import arguments

import mgd_ssl.runs.dry_run as dry
from mgd_ssl.commands import pretrain
from mgd_ssl.runs.dry_run import dry_run
from mgd_ssl.runs.pretrain import build
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.training.devices import start_fabric


def test_a_dry_run_writes_nothing_and_says_the_cost(
    tmp_path: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    argv = arguments(tmp_path / "run", teacher, "--method", "mgd-plus", "--dry-run")
    assert pretrain.main(argv) == 0
    said = " ".join("".join(capsys.readouterr()).split())
    for part in (
        "million parameters",
        "memory: a step of",
        "images/s in real steps",
        "nothing was written",
    ):
        assert part in said
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_says_what_bounds_the_batch(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse(PretrainConfig, "pretrain.py", arguments(tmp_path / "run", teacher))
    run, said = build(config, start_fabric(config.device)), list[str]()
    monkeypatch.setattr(dry.logger, "info", lambda text, *values: said.append(text % values))
    step = dry._memory(run)["step"]
    for free in (1000 * step, step):
        monkeypatch.setattr(dry, "share_of", lambda _, free=free: free)
        dry._memory(run)
    assert said[-2].endswith("power of two that the 64 training images fill is -b 64")
    assert re.search(r"power of two that fits is -b (\d+)$", said[-1])


def test_the_figures_are_those_of_the_networks(tmp_path: Path, teacher: Path) -> None:
    argv = arguments(tmp_path / "run", teacher, "--method", "mgd-plus")
    config = parse(PretrainConfig, "pretrain.py", argv)
    run = build(config, start_fabric(config.device))
    student = run.task.student
    figures = dry_run(run, config)
    assert figures["student"]["parameters"] == sum(p.numel() for p in student.parameters())
    convolutions = []

    def count(module: torch.nn.Conv2d, inputs: object, output: torch.Tensor) -> None:
        window = module.weight[0].numel()  # a multiplication and an addition each
        convolutions.append(2 * output.numel() * window)

    for module in student.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        student.eval()(torch.zeros(1, 3, 32, 32))
    assert figures["student"]["flops"] == sum(convolutions)
    assert 1 <= figures["teacher_knows"]["effective_rank"] <= figures["teacher_knows"]["features"]
    assert 0 <= figures["teacher_knows"]["knn_top1"] <= 100
    assert figures["images_per_second"] > 0 and figures["memory"]["step"] > 0
    # tiny networks at 32 pixels: the images bound the batch, and not the memory
    largest, images = figures["memory"]["largest_batch"], len(run.data.source)
    assert largest <= images < 2 * largest
