"""Every objective trains a student that the other commands read, alone or with the matching."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import killed_in_step
from scipy.optimize import linear_sum_assignment
from test_resume import differences
from tiny_runs import arguments, read_last, read_rows

from mgd_ssl.commands import pretrain
from mgd_ssl.models import create_classifier, load_backbone
from mgd_ssl.runs.pretrain import build
from mgd_ssl.settings.methods import METHODS
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.training import plan
from mgd_ssl.training.devices import start_fabric

LOSSES = {
    "simreg": {"regression"},
    "seed": {"similarity"},
    "compress": {"similarity"},
    "disco": {"contrastive", "embedding"},
    "simsiam": {"siamese"},
    "moco": {"contrastive"},
}
STAGES = {f"matching/layer{i}" for i in range(1, 5)}


def losses(run: Path) -> set[str]:
    row = [row for row in read_rows(run) if "train_loss" in row][-1]
    return {k.removeprefix("train_loss/") for k in row if k.startswith("train_loss/")}


@pytest.mark.parametrize("matched", [False, True])
@pytest.mark.parametrize("method", LOSSES)
def test_a_method_trains_with_and_without_the_matching(
    tmp_path: Path,
    teacher: Path,
    capsys: pytest.CaptureFixture[str],
    method: str,
    matched: bool,
) -> None:
    alone = method in ("moco", "simsiam") and not matched
    more = ("--epochs", "1", "--method", method)
    argv = arguments(tmp_path / "run", None if alone else teacher, *more)
    assert pretrain.main(argv + (["--mgd-weight", "0.1"] if matched else [])) == 0
    said = f"no --teacher: the student is trained alone, by {method}"
    assert (said in capsys.readouterr().err) == alone
    assert losses(tmp_path / "run") == LOSSES[method] | (STAGES if matched else set())
    network, report = load_backbone(tmp_path / "run" / "checkpoints" / "last.pt")
    assert report.missing == [] and report.spec.width == 0.125
    exported, _ = load_backbone(tmp_path / "run" / "student.safetensors")
    assert differences(network.state_dict(), exported.state_dict()) == []


def test_the_recommended_recipe_regresses_and_matches_one_to_one_once(
    tmp_path: Path,
    teacher: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan.console, "width", 200)
    argv = arguments(tmp_path / "run", teacher, "--method", "mgd-plus", "--epochs", "3")
    assert pretrain.main(argv) == 0
    assert capsys.readouterr().out.count("1, expanded") == len(STAGES)
    assert losses(tmp_path / "run") == {"regression"} | STAGES
    assert [p.name for p in (tmp_path / "run" / "matching").iterdir()] == ["epoch_0001.npz"]
    last = read_last(tmp_path / "run")
    others = {k for k in last["state_dict"] if not k.startswith("module.encoder_q.")}
    assert others == {"module.objective.head.0.weight", "module.objective.head.0.bias"}
    for name, partners in last["distiller"].items():
        if name.startswith("assignment_"):
            assert sorted(partners.flatten().tolist()) == list(range(len(partners)))
    first = [row for row in read_rows(tmp_path / "run") if "matching_scale/layer1" in row]
    assert len(first) == 1
    with np.load(tmp_path / "run" / "matching" / "epoch_0001.npz") as stored:
        for stage in ("layer1", "layer4"):  # the stored costs' own optimum is the logged total
            cost = stored[f"{stage}/cost"]
            least = cost[linear_sum_assignment(cost)].sum()
            assert least == pytest.approx(first[0][f"matching_total/{stage}"], rel=1e-5)


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (["--mgd-adapter", "batch"], {"regression"} | STAGES),
        (["--mgd-weight", "0.1", "--regression-head", "four"], {"regression"} | STAGES),
        (["--mgd-loss-factor", "100", "--objective-weight", "2"], {"regression"} | STAGES),
    ],
)
def test_every_part_of_the_recommended_recipe_can_be_said_otherwise(
    tmp_path: Path, teacher: Path, more: list[str], parts: set[str]
) -> None:
    argv = arguments(tmp_path / "run", teacher, "--method", "mgd-plus", "--epochs", "1", *more)
    assert pretrain.main(argv) == 0
    assert losses(tmp_path / "run") == parts


def test_a_method_without_a_queue_takes_any_batch(tmp_path: Path, teacher: Path) -> None:
    def argv(method: str) -> list[str]:
        more = ("--epochs", "1", "-b", "10", "--method", method)
        return arguments(tmp_path / "run", teacher, *more)

    assert pretrain.main(argv("mgd")) == 1  # its queue is no multiple of 10
    assert pretrain.main(argv("mgd-plus")) == 0


@pytest.mark.parametrize("method", ["mgd-plus", "seed", "compress"])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, teacher: Path, method: str) -> None:
    more = ["--method", method, "--save-every", "2"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert pretrain.main(arguments(whole, teacher, *more)) == 0
    killed_in_step(8, "pretrain", arguments(run, teacher, *more))  # the seventh is lost
    assert read_last(run)["progress"]["step"] == 2
    assert pretrain.main(arguments(run, teacher, *more, "--resume")) == 0
    left, right = read_last(run), read_last(whole)
    for content in (left, right):
        content.pop("config")
    assert method == "mgd-plus" or "module.objective.queue" in right["state_dict"]
    assert differences(left, right) == []


def as_main_lincls_reads(content: dict[str, Any], network: torch.nn.Module) -> list[str]:
    """facebookresearch/moco's main_lincls.py: load what it finds; the keys that are missing."""
    state = dict(content["state_dict"])
    for key in list(state):
        if key.startswith("module.encoder_q") and not key.startswith("module.encoder_q.fc"):
            state[key[len("module.encoder_q.") :]] = state[key]
        del state[key]
    return list(network.load_state_dict(state, strict=False).missing_keys)


@pytest.mark.parametrize("method", METHODS)
def test_mocos_linear_evaluation_finds_the_student_of_every_method(
    tmp_path: Path, teacher: Path, method: str
) -> None:
    with_teacher = None if method in ("moco", "simsiam") else teacher
    argv = arguments(tmp_path / "run", with_teacher, "--method", method)
    config = parse(PretrainConfig, "pretrain.py", argv)
    run = build(config, start_fabric(config.device))
    torch.save(run.networks(), tmp_path / "last.pt")
    network = create_classifier(1000, **run.task.student.spec.to_dict())  # torchvision's keys
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    assert set(as_main_lincls_reads(content, network)) == {"fc.weight", "fc.bias"}
    loaded, report = load_backbone(tmp_path / "last.pt")
    assert report.layout == "moco" and report.unexpected == []
    student = run.task.student.state_dict()
    for key, value in loaded.state_dict().items():
        assert torch.equal(network.state_dict()[key], value) and torch.equal(student[key], value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--mgd-start", "0.1", "--method", "moco"], "method moco: got no teacher"),
        (["--method", "simreg"], "method simreg: got no teacher, expected --teacher PATH"),
        (["--method", "simsiam", "--mgd-weight", "1"], "method simsiam: got no teacher"),
        (["--method", "simsiam", "--teacher", "t.pt"], "match the teacher's maps: --mgd-weighing"),
    ],
)
def test_a_method_and_its_teacher_must_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert pretrain.main([str(tmp_path), "--out", str(tmp_path / "run"), *more]) == 1
    assert message in capsys.readouterr().err
