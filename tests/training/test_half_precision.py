"""bf16 on the CPU: both networks compute in it, losses do not, and a run resumes exactly."""

from itertools import islice
from pathlib import Path

import torch
from forked import killed_in_step
from test_resume import differences
from tiny_runs import arguments, read_last
from torch import nn

from mgd_ssl.commands import pretrain
from mgd_ssl.runs.pretrain import build
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.training.devices import start_fabric

HALF = ("--method", "mgd-plus", "--precision", "bf16", "--channels-last", "--accelerator", "cpu")
HALF = (*HALF, "--save-every", "1", "-p", "1", "--threads", "1")


def test_student_and_teacher_compute_in_bf16_and_losses_in_float32(
    tmp_path: Path, teacher: Path
) -> None:
    config = parse(PretrainConfig, "x", arguments(tmp_path / "run", teacher, *HALF))
    run = build(config, start_fabric(config.device))
    task = run.task.to(memory_format=torch.channels_last)
    assert task.teacher and task.distiller
    with run.fabric.autocast():
        task.solve(islice(run.data.calibration_batches(), 1))
    run.module, run.optimizer = run.fabric.setup(task, run.optimizer)
    seen: dict[str, set[tuple[torch.dtype, bool]]] = {"student": set(), "teacher": set()}
    for name, network in (("student", task.student), ("teacher", task.teacher.network)):
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                module.register_forward_hook(
                    lambda _, __, y, name=name: seen[name].add(
                        (y.dtype, y.is_contiguous(memory_format=torch.channels_last))
                    )
                )
    losses = run.step(next(iter(run.data.loader)))
    assert seen == {name: {(torch.bfloat16, True)} for name in seen}
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert {p.dtype for p in task.parameters()} == {torch.float32}


def test_a_killed_run_in_bf16_resumes_to_the_same_bits(tmp_path: Path, teacher: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert pretrain.main(arguments(whole, teacher, *HALF)) == 0
    killed_in_step(7, "pretrain", arguments(run, teacher, *HALF))
    assert pretrain.main(arguments(run, teacher, *HALF, "--resume")) == 0
    first, second = read_last(run), read_last(whole)
    for content in (first, second):
        content.pop("config")
    assert differences(first, second) == []


def test_a_live_teacher_sees_larger_views_in_bf16(tmp_path: Path, teacher: Path) -> None:
    larger = ("--teacher-size", "48", "--epochs", "1")
    assert pretrain.main(arguments(tmp_path / "run", teacher, *HALF, *larger)) == 0
