"""Pretraining from existing weights: a run's, a library's by name, another project's file."""

import hashlib
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from official_files import dinov2_shapes, random_state
from safetensors import safe_open
from tiny_runs import read_last, stop_at
from torch import Tensor
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from mgd_ssl.commands import pretrain
from mgd_ssl.losses import MoCo
from mgd_ssl.models import BackboneSpec, backbone_state, create_backbone, load_backbone
from mgd_ssl.runs.pretrain import PretrainRun, build
from mgd_ssl.settings.parsing import complete, parse
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.training.devices import start_fabric
from mgd_ssl.training.same_run import located

pytest.importorskip("timm")
Capture = pytest.CaptureFixture[str]
RUN = ["--limit", "32", "-b", "8", "-j", "0", "--knn-every", "0", "--health-every", "0"]
RUN += ["--method", "mgd-plus", "--epochs", "2"]
SMALL = {"width": 0.125, "stem": "small", "stem_stride": 2}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A student as a run of this project exports it."""
    torch.manual_seed(7)
    path, network = tmp_path / "start.pt", create_backbone("resnet18", **SMALL)  # type: ignore[arg-type]
    spec = cast(BackboneSpec, network.spec).to_dict()
    torch.save({"arch": "resnet18", "backbone": spec, "state_dict": network.state_dict()}, path)
    return path


def argv(teacher: Path, weights: Path | str, out: Path, *more: str) -> list[str]:
    given = ["--teacher", str(teacher), "--student-weights", str(weights), "--out", str(out)]
    return [*given, *RUN, *more]


def built(*words: str) -> PretrainRun:
    config = located(parse(PretrainConfig, "pretrain.py", words))
    return build(config, start_fabric(config.device))


def student_of(run: PretrainRun) -> dict[str, Tensor]:
    return backbone_state(run.task.student)


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(v, right[k]) for k, v in left.items())


def test_the_first_step_is_taken_from_the_files_weights(
    teacher: Path, weights: Path, tmp_path: Path
) -> None:
    state = torch.load(weights, weights_only=True)["state_dict"]
    for method in (["--method", "mgd-plus"], ["--method", "mgd", "--moco-k", "64"]):
        run = built(*argv(teacher, weights, tmp_path / "run", *method))
        assert same(student_of(run), state)
        report = run.reports.student_weights
        assert report and report.matched == len(state)
        assert not (report.missing or report.unexpected)
        if isinstance(run.task.loss, MoCo):
            key_encoder = backbone_state(run.task.loss.encoder_k)
            assert same({k: v for k, v in key_encoder.items() if k in state}, state)


def test_a_run_says_what_it_came_from_and_moves_away_from_it(
    teacher: Path, weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "run"
    assert pretrain.main(argv(teacher, weights, out)) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"student {weights}: state_dict layout" in said and "120 matched, 0 missing" in said
    with safe_open(out / "student.safetensors", "pt") as file:
        provenance = json.loads(file.metadata()["provenance"])
    digests = {
        name: {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
        for name, path in (("teacher", teacher), ("student_weights", weights))
    }
    assert {name: part["sha256"] for name, part in provenance.items()} == digests
    assert provenance["student_weights"]["network"]["width"] == 0.125
    assert read_last(out)["provenance"] == provenance
    assert load_backbone(out)[1].learned_from == provenance
    trained, start = (load_backbone(path)[0].state_dict() for path in (out, weights))
    values = [key for key, value in start.items() if value.is_floating_point()]
    assert not any(torch.equal(start[key], trained[key]) for key in values)


def test_a_run_that_goes_on_ends_with_the_bits_of_one_that_was_not_stopped(
    teacher: Path, weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert pretrain.main(argv(teacher, weights, tmp_path / "whole")) == 0
    with pytest.MonkeyPatch.context() as patched:
        stop_at(5, patched)  # of eight steps
        status = pretrain.main(argv(teacher, weights, tmp_path / "run"))
    assert status == 128 + signal.SIGTERM
    moved = shutil.move(weights, tmp_path / "moved.pt")
    resumed = argv(teacher, moved, tmp_path / "run", "--resume")
    assert pretrain.main(resumed) == 0
    whole, run = read_last(tmp_path / "whole"), read_last(tmp_path / "run")
    assert same(whole["state_dict"], run["state_dict"])
    assert whole["provenance"]["teacher"] == run["provenance"]["teacher"]
    torch.manual_seed(8)
    torch.save(create_backbone("resnet18", **SMALL).state_dict(), moved)  # type: ignore[arg-type]
    capsys.readouterr()
    assert pretrain.main(resumed) != 0
    assert "the weights that the student starts from are others" in capsys.readouterr().err


def library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Random weights where torchvision keeps its downloads."""
    monkeypatch.setenv("TORCH_HOME", str(folder))
    name = MobileNet_V2_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    torch.manual_seed(2)
    network = mobilenet_v2()
    (folder / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(network.state_dict(), folder / "hub" / "checkpoints" / name)
    return {k: v for k, v in network.state_dict().items() if not k.startswith("classifier.")}


def sources(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, str, Any]]:
    """What --student-weights takes, the network's name, and its state."""
    yield "mobilenet_v2", "mobilenet_v2", library(folder, monkeypatch)
    network = create_backbone("timm/mobilenetv3_small_050")
    torch.save(network.state_dict(), folder / "timm.pt")
    yield folder / "timm.pt", "timm/mobilenetv3_small_050", network.state_dict()
    official = random_state(dinov2_shapes(128, 2, side=4))
    torch.save(official, folder / "dinov2_own.pth")
    own = {k: v for k, v in official.items() if k != "mask_token"}
    yield folder / "dinov2_own.pth", "timm/vit_small_patch14_dinov2", own


def test_names_and_files_of_any_layout_start_a_student(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source, arch, state in sources(tmp_path, monkeypatch):
        size = "56" if "patch14" in arch else "64"
        run = built(*argv(teacher, source, tmp_path / "run", "--size", size))
        assert cast(BackboneSpec, run.task.student.spec).arch == arch
        assert same(student_of(run), state)


def test_a_runs_student_starts_another_run(teacher: Path, weights: Path, tmp_path: Path) -> None:
    first = argv(teacher, weights, tmp_path / "first")
    assert pretrain.main(first) == 0
    for source in (tmp_path / "first", tmp_path / "first" / "student.safetensors"):
        run = built(*argv(teacher, source, tmp_path / "second"))
        assert same(student_of(run), load_backbone(tmp_path / "first")[0].state_dict())
        assert run.config.loader.size == 32
        carried = read_last(tmp_path / "first")["provenance"]
        assert run.reports.provenance["student_weights"]["learned_from"] == carried


def test_the_file_says_size_and_the_stages_to_leave_out(tmp_path: Path) -> None:
    state = create_backbone("mobilenet_v2", width=0.25).state_dict()
    torch.save({"state_dict": state, "size": 48}, tmp_path / "m.pt")
    given: dict[str, Any] = {"data": tmp_path, "student_weights": tmp_path / "m.pt"}
    config = complete(PretrainConfig, teacher=Path("resnet50"), **given)
    assert (config.loader.size, config.mgd.ignore) == (48, (0,))
    assert config.network.arch is None and config.out == Path("runs/student")
    config = complete(PretrainConfig, teacher=Path("resnet50"), size=64, ignore=(1,), **given)
    assert (config.loader.size, config.mgd.ignore) == (64, (1,))


def test_a_dry_run_says_what_the_student_starts_from(
    teacher: Path, weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert pretrain.main(argv(teacher, weights, tmp_path / "run", "--dry-run")) == 0
    said = " ".join("".join(capsys.readouterr()).split())
    assert f"student {weights}: state_dict layout" in said and "nothing was written" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-a", "resnet50"], "resnet50; keys: 97 matched, 165 missing"),
        (["-a", "mobilenet_v2"], "holds none of the entries of mobilenet_v2"),
        (["--width", "0.25"], "shape of conv1.weight: got (8, 3, 3, 3), expected (16, 3, 3, 3)"),
        (["--stem", "imagenet"], "shape of conv1.weight: got (8, 3, 3, 3), expected (8, 3, 7, 7)"),
    ],
)
def test_weights_of_another_network_than_is_named_are_refused(
    teacher: Path, weights: Path, tmp_path: Path, capsys: Capture, more: list[str], message: str
) -> None:
    assert pretrain.main(argv(teacher, weights, tmp_path / "run", *more)) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert message in said and "--arch resnet18 --width 0.125 --stem small" in said
    assert not (tmp_path / "run").exists()


def test_a_plain_stem_is_not_made_small(teacher: Path, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "plain.pt"
    torch.save(create_backbone("resnet18", width=0.125).state_dict(), path)
    assert pretrain.main(argv(teacher, path, tmp_path / "run", "--stem", "small")) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "shape of conv1.weight: got (8, 3, 7, 7), expected (8, 3, 3, 3)" in said
    assert "--stem imagenet" in said
    assert pretrain.main(argv(teacher, path, tmp_path / "run", "--stem-stride", "2")) != 0
    assert "leave --stem-stride" in " ".join(capsys.readouterr().err.split())


def test_a_student_of_the_teachers_own_weights_is_refused(
    teacher: Path, tmp_path: Path, capsys: Capture
) -> None:
    copy = shutil.copy(teacher, tmp_path / "copy.pt")
    for source in (teacher, Path(copy)):
        assert pretrain.main(argv(teacher, source, tmp_path / "run")) != 0
        said = " ".join(capsys.readouterr().err.split())
        assert f"student_weights: got {source}, which holds the weights of the teacher" in said
        assert "leave --student-weights out and name a network: -a resnet18" in said
        assert not (tmp_path / "run").exists()
