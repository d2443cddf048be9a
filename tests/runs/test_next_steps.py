"""The lines that a run ends with do what they say."""

import shlex
from pathlib import Path

import pytest
import torch
from torch import nn

from mgd_ssl.commands.main import COMMANDS
from mgd_ssl.models import BackboneSpec, create_backbone
from mgd_ssl.models.backbones import backbone_state
from mgd_ssl.runs.next_steps import loading, next_steps
from mgd_ssl.settings.evaluation import KnnConfig, LinearEvalConfig
from mgd_ssl.settings.parsing import parse
from mgd_ssl.training.checkpoint import export_student

SETTINGS = {"knn-eval": KnnConfig, "linear-eval": LinearEvalConfig}


@pytest.mark.parametrize(
    "spec",
    [
        BackboneSpec("shufflenet_v2_x0_5"),
        BackboneSpec("mobilenet_v3_small"),
        BackboneSpec("resnet18", width=0.125, stem="small"),
        BackboneSpec("timm/resnet10t"),
        BackboneSpec("mnasnet0_5"),  # which torchvision loads from PyTorch's files alone
        BackboneSpec("torchvision.models:squeezenet1_1"),
    ],
)
def test_the_lines_load_the_student(tmp_path: Path, spec: BackboneSpec) -> None:
    torch.manual_seed(0)
    own = create_backbone(spec.arch, width=spec.width, stem=spec.stem).eval()
    expected, file = backbone_state(own), tmp_path / "it's" / "student.safetensors"
    file.parent.mkdir()
    export_student(file, expected, spec, {"mean": (0.5,) * 3, "std": (0.5,) * 3}, 32, {})
    lines = loading(file, own)
    names: dict[str, nn.Module] = {}
    exec("\n".join(lines), names)
    state = names["student"].state_dict()
    assert len(lines) <= 3 and expected.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in expected.items())
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(names["student"](images), own(images))


def test_a_transformer_is_loaded_for_images_of_other_sizes_too(tmp_path: Path) -> None:
    spec, file = BackboneSpec("timm/test_vit"), tmp_path / "student.safetensors"
    own, images = create_backbone(spec.arch).eval(), torch.randn(2, 3, 64, 64)
    export_student(file, backbone_state(own), spec, {"mean": (0.5,) * 3, "std": (0.5,) * 3}, 64)
    names: dict[str, nn.Module] = {}
    exec("\n".join(loading(file, own)), names)
    torch.testing.assert_close(names["student"](images), own(images))


@pytest.mark.parametrize(("labeled", "count"), [(True, 2), (False, 1)])
def test_the_commands_are_commands(labeled: bool, count: int) -> None:
    data = ["my images", "--val-folder", "held out"]
    said = next_steps(Path("runs/a b"), data, create_backbone("resnet18"), labeled)
    commands = [shlex.split(line) for line in said.splitlines() if "mgd-ssl " in line]
    assert len(commands) == count
    for program, name, *words in commands:
        assert program == "mgd-ssl" and name in COMMANDS
        parsed = str(parse(SETTINGS[name], name, words))  # type: ignore[type-var]
        assert all(text in parsed for text in ("runs/a b", "my images", "held out"))
        assert ("retrieve=10" in parsed) != labeled


@pytest.mark.parametrize("labeled", [True, False])
def test_the_commands_name_a_network_of_the_users_own(labeled: bool) -> None:
    student = create_backbone("torchvision.models:squeezenet1_1")
    said = next_steps(Path("run"), ["photos"], student, labeled)
    for line in said.splitlines():
        if "mgd-ssl " in line:
            _, name, *words = shlex.split(line)
            parsed: KnnConfig = parse(SETTINGS[name], name, words)  # type: ignore[type-var]
            assert parsed.network.arch == "torchvision.models:squeezenet1_1"
