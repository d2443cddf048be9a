"""What a file says of its network is data: code is named by a caller alone."""

import json
import sys

import pytest
import torch
from safetensors.torch import save_file

from mgd_ssl.commands import export, knn_eval
from mgd_ssl.detection.checkpoints import load_body, load_detector
from mgd_ssl.detection.retinanet import DetectorSpec, create_detector
from mgd_ssl.models import create_backbone, load_backbone, load_classifier
from mgd_ssl.settings.parsing import complete
from mgd_ssl.settings.pretrain import PretrainConfig

OWN = "own_networks:thin"


@pytest.fixture
def called(tmp_path, monkeypatch):
    """A module on the path whose function leaves a trace when it is called."""
    trace = tmp_path / "called"
    (tmp_path / "own_networks.py").write_text(
        "from pathlib import Path\n"
        "from mgd_ssl.models import create_backbone\n"
        "def thin():\n"
        f"    Path({str(trace)!r}).touch()\n"
        "    return create_backbone('resnet18', width=0.125)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield trace
    sys.modules.pop("own_networks", None)


def state():
    return create_backbone("resnet18", width=0.125).state_dict()


def written(tmp_path, kind, arch):
    """A file that names its network as ``arch`` in one of the places where it may."""
    if kind == "safetensors":
        path = tmp_path / "a.safetensors"
        save_file(state(), path, {"backbone": json.dumps({"arch": arch})})
        return path
    path = tmp_path / "a.pt"
    said = {"arch": arch} if kind == "arch" else {"backbone": {"arch": arch}}
    torch.save({"state_dict": state(), **said}, path)
    return path


@pytest.mark.parametrize("kind", ["arch", "backbone", "safetensors"])
@pytest.mark.parametrize("load", [load_backbone, load_classifier])
def test_code_in_a_file_is_refused_and_named_by_the_caller_it_runs(kind, load, called, tmp_path):
    path = written(tmp_path, kind, OWN)
    with pytest.raises(ValueError, match=r"which names code.*--arch MODULE:FUNCTION") as error:
        load(path)
    assert OWN in str(error.value) and str(path) in str(error.value)
    assert not called.exists() and "own_networks" not in sys.modules
    network, report = load(path, arch=OWN)
    assert called.exists() and report.spec.arch == OWN
    named, _ = load_backbone(path, arch="resnet18", width=0.125)
    assert torch.equal(network.conv1.weight, named.conv1.weight)


@pytest.mark.parametrize(
    "arch",
    [
        *("hf-hub:someone/resnet18", "hf_hub:someone/resnet18", "local-dir:/etc", "os:getcwd"),
        *("http://host/x.pt", "timm/hf-hub:x/y", "../resnet18", "/tmp/resnet18", "timm/../x"),
        *("", "a b"),
    ],
)
@pytest.mark.parametrize("kind", ["arch", "backbone", "safetensors"])
def test_an_address_or_a_path_in_a_file_is_refused(arch, kind, tmp_path):
    with pytest.raises(ValueError, match="expected the name of a network of torchvision or timm"):
        load_backbone(written(tmp_path, kind, arch))


def test_a_detectors_file_names_no_code_and_its_caller_does(called, tmp_path):
    spec = DetectorSpec(
        arch="resnet18", width=0.125, category_ids=(1, 2), fpn_channels=8, head_convs=1
    )
    detector = create_detector(spec)
    content = {"state_dict": detector.state_dict(), "detector": spec.to_dict() | {"arch": OWN}}
    torch.save(content | {"detector": content["detector"] | {"width": 1.0}}, tmp_path / "d.pt")
    with pytest.raises(ValueError, match=r"detector\.arch: got 'own_networks:thin'.*names code"):
        load_detector(tmp_path / "d.pt")
    with pytest.raises(ValueError, match="names code"):
        load_backbone(tmp_path / "d.pt")
    assert not called.exists()
    assert load_detector(tmp_path / "d.pt", arch=OWN)[0].spec.arch == OWN
    body = create_detector(DetectorSpec(arch=OWN, category_ids=(1, 2), fpn_channels=8))
    load_body(body, written(tmp_path, "backbone", OWN))  # the detector's own caller named it


def test_a_run_of_ones_own_network_is_read_where_it_is_named_again(called, tmp_path, capsys):
    path = written(tmp_path, "backbone", OWN)
    assert export.main([str(path), "--out", str(tmp_path / "a.safetensors")]) == 1
    assert "--arch MODULE:FUNCTION" in capsys.readouterr().err
    assert export.main([str(path), "--out", str(tmp_path / "a.safetensors"), "--arch", OWN]) == 0
    given = ["--limit", "8", "--limit-val", "8", "--knn-k", "1", "--size", "32"]
    assert knn_eval.main([str(path), *given]) == 1
    assert knn_eval.main([str(path), *given, "--arch", OWN]) == 0


def test_a_teacher_of_ones_own_is_named_on_the_command_line(called, tmp_path):

    path = written(tmp_path, "arch", OWN)
    with pytest.raises(ValueError, match="names code"):
        complete(PretrainConfig, teacher=path)
    complete(PretrainConfig, teacher=path, teacher_arch=OWN)
