"""The benchmark beside lightly-train: what it asks of it, and that neither needs the other."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision.io import decode_image

from mgd_ssl.data import open_source, subset
from mgd_ssl.models import BackboneSpec, backbone_state, create_backbone, load_backbone
from mgd_ssl.settings.views import PRESETS, preset
from mgd_ssl.training.checkpoint import export_student

ROOT = Path(__file__).parents[2]
THIN = BackboneSpec("resnet18", 0.125, "small", 2)
# Stands for lightly-train: sees four batches of two, lets the first weight grow, exports.
STAND_IN = """
import json, pathlib, torch
def pretrain(model, out, epochs, method_args, **settings):
    teacher = method_args.pop("teacher")
    model.train()
    for _ in range(2 * epochs):
        maps = model.forward_features(torch.rand(2, 3, 32, 32))
        with torch.no_grad():
            wide = teacher.forward_pool(teacher.forward_features(torch.rand(2, 3, 32, 32)))
    torch.nn.init.constant_(model.get_model().conv1.weight, 0.25)
    folder = pathlib.Path(out) / "exported_models"
    folder.mkdir(parents=True)
    torch.save(model.get_model().state_dict(), folder / "exported_last.pt")
    width = wide["pooled_features"].shape[1], teacher.feature_dim(), model.feature_dim()
    seen = {"width": width, "args": method_args, **settings}
    (folder / "seen.json").write_text(json.dumps(seen))
"""


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A Python path with packages of the names and versions that the script asks for."""
    site = tmp_path / "site"
    (site / "lightly_train").mkdir(parents=True)
    (site / "lightly_train" / "__init__.py").write_text(STAND_IN)
    info = site / "lightly_train-0.18.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lightly-train\nVersion: 0.18.0\n")
    monkeypatch.setenv("PYTHONPATH", str(site))


@pytest.fixture
def without(tmp_path):
    """A Python that has nothing."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    return python


@pytest.fixture
def teacher(tmp_path):
    path = tmp_path / "teacher.safetensors"
    spec = BackboneSpec("resnet18", 0.25, "small", 2)
    half = {"mean": [0.5] * 3, "std": [0.25] * 3}
    export_student(path, backbone_state(create_backbone(**spec.to_dict())), spec, half, 32)
    return path


def test_rows_are_left_out_with_how_to_install_where_it_is_missing(
    script, without, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "executable", str(without))
    assert script("lightly_rows").find(None) is None
    said = capsys.readouterr().out
    assert "left out" in said and "pip install lightly-train==0.18.0" in said


@pytest.mark.parametrize("name", ["python", "nowhere"])
def test_a_python_that_was_given_and_lacks_it_is_refused(script, without, name):
    given = without.with_name(name)
    with pytest.raises(SystemExit, match=f"got {given}, which cannot import lightly-train"):
        script("lightly_rows").find(given)


def test_a_python_that_has_it_is_taken(script, stand_in):
    assert script("lightly_rows").find(None) == Path(sys.executable)


def test_a_students_weights_and_steps_come_back(script, stand_in, teacher, tmp_path):
    rows = script("lightly_rows")
    views = preset("small", crop_min=0.5, gray_p=0.0)
    setting = rows.Setting(tmp_path / "images", teacher, THIN, views, 32, 64, 2, 1)
    out = tmp_path / "row"
    result = rows.train(Path(sys.executable), "lightly-train, lr x32", 7, setting, out)
    student, report = load_backbone(out / "student.safetensors")
    assert torch.equal(student.conv1.weight, torch.full((8, 3, 3, 3), 0.25))
    assert (report.spec, report.mean, report.std) == (THIN, (0.5,) * 3, (0.25,) * 3)
    assert len(result["steps"]) == 4 and result["steps"] == sorted(result["steps"])
    assert result["seconds"] > result["steps"][-1] - result["steps"][0]
    assert result["versions"]["lightly-train"] == "0.18.0"
    seen = json.loads((out / "lightly" / "exported_models" / "seen.json").read_text())
    assert seen["width"] == [128, 128, 64]
    assert (seen["batch_size"], seen["seed"], seen["optim_args"]) == (64, 7, {"lr": 0.016})
    assert seen["transform_args"]["normalize"] == {"mean": [0.5] * 3, "std": [0.25] * 3}


def test_views_are_asked_for_in_its_words(script):
    views = preset("small", crop_min=0.5, jitter_hue=0.0, gray_p=0.0)
    args = script("lightly_rows").transform_args(views, 32, (0.5,), (0.2,))
    assert args == {
        "image_size": [32, 32],
        "random_resize": {"min_scale": 0.5, "max_scale": 1.0},
        "random_flip": {"horizontal_prob": 0.5, "vertical_prob": 0.0},
        "color_jitter": {
            "prob": 0.8,
            "strength": 1.0,
            "brightness": 0.4,
            "contrast": 0.4,
            "saturation": 0.2,
            "hue": 0.0,
        },
        "random_gray_scale": None,
        "gaussian_blur": None,
        "solarize": None,
        "normalize": {"mean": (0.5,), "std": (0.2,)},
    }
    with pytest.raises(ValueError, match=r"got blur_p 0\.5, expected 0"):
        script("lightly_rows").transform_args(PRESETS["moco_v2"], 32, (0.5,), (0.2,))


def test_maps_pool_to_the_networks_own_output(script):
    module = script("lightly_student")
    network = create_backbone(**THIN.to_dict()).eval()
    images = torch.rand(2, 3, 32, 32)
    wrapped = module.Maps(network)
    maps = wrapped.forward_features(images)
    assert maps["features"].shape == (2, 64, 2, 2)
    pooled = wrapped.forward_pool(maps)["pooled_features"]
    torch.testing.assert_close(pooled.flatten(1), network(images))
    with pytest.raises(RuntimeError, match="training mode"):
        module.Maps(network.train()).forward_features(images)
    with pytest.raises(SystemExit, match="got MobileNetV2, expected a ResNet"):
        module.Maps(create_backbone("mobilenet_v2"))


def test_speed_counts_the_steps_between_the_first_and_the_last_of_an_epoch(script):
    module = script("side_by_side")
    steps = [0.0, 4.0, 8.0, 100.0, 101.0, 102.0, 200.0, 202.0, 204.0]
    assert module.speeds_of(steps, 3, 10) == [2.5, 10.0, 5.0]
    assert module.middle([2.5, 10.0, 5.0]) == 7.5
    assert module.middle([2.5]) == 2.5


def test_images_on_disk_are_the_centres_of_the_sources(script, tmp_path):
    folder = script("side_by_side").write_images(None, 3, 28, tmp_path)
    expected = subset(open_source(None, "train"), 3)
    files = sorted(folder.iterdir())
    assert len(files) == 3
    for index, file in enumerate(files):
        gray = torch.from_numpy(expected.read_array([index])[0])
        assert torch.equal(decode_image(str(file)), gray.expand(3, -1, -1))


def test_mgd_ssl_never_imports_it_and_its_networks_stand_alone():
    for path in (ROOT / "mgd_ssl").rglob("*.py"):
        assert not any(name.startswith("lightly") for name in imported(path)), path
    code = "import sys; sys.path.append('benchmarks'); import lightly_student as student; "
    code += "student.read_networks().create_backbone('resnet18'); print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    needed = {name.partition(".")[0] for name in loaded.split()}
    assert not needed & {"kornia", "lightning", "faiss", "ortools", "tyro", "jaxtyping"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
