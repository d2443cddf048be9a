"""What is exported for Detectron2 is read back, and is what its own loader expects."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mgd_ssl.commands import export
from mgd_ssl.detection.checkpoints import load_body, load_detector
from mgd_ssl.detection.retinanet import DetectorSpec, create_detector
from mgd_ssl.exporting.targets import detectron2 as exporting
from mgd_ssl.models import backbone_state, create_backbone, load_backbone

TO = ["--to", "detectron2"]
SAMPLE = Path(__file__).parents[2] / "mgd_ssl/data/sample/teacher.pth.tar"


@pytest.fixture
def detector():
    torch.manual_seed(0)
    options = {"category_ids": (3, 7), "fpn_channels": 32, "head_convs": 2, "p6_from": "c5"}
    detector = create_detector(DetectorSpec("resnet50", 0.125, norm="frozen", **options))
    for value in detector.state_dict().values():
        if value.ndim == 1:  # of norms, and biases
            value.uniform_(0.5, 1)
    return detector


@pytest.fixture
def checkpoint(detector, tmp_path):
    content = {"detector": detector.spec.to_dict(), "state_dict": detector.state_dict()}
    torch.save(content, tmp_path / "last.pt")
    return tmp_path / "last.pt"


def test_a_backbone_is_written_as_mocos_converter_does(tmp_path, capsys):
    out = tmp_path / "new" / "teacher.pkl"
    assert export.main([str(SAMPLE), "--to", "detectron2", "--out", str(out)]) == 0
    content = pickle.loads(out.read_bytes())
    assert content["matching_heuristics"] is True
    assert content["__author__"] == "mgd_ssl"
    backbone, report = load_backbone(SAMPLE)
    state = backbone_state(backbone)
    written = content["model"]
    assert len(written) == len(state)
    assert all(isinstance(value, np.ndarray) for value in written.values())
    assert not any(key.startswith(("fc", "stem.fc")) for key in written)
    for here, there in {
        "conv1.weight": "stem.conv1.weight",
        "bn1.running_var": "stem.conv1.norm.running_var",
        "layer2.0.downsample.1.weight": "res3.0.shortcut.norm.weight",
        "layer4.1.bn2.bias": "res5.1.conv2.norm.bias",
    }.items():
        np.testing.assert_array_equal(written[there], state[here].numpy())
    detector = create_detector(DetectorSpec(**report.spec.to_dict(), category_ids=(1,)))
    load_body(detector, out)
    body = detector.backbone.body.state_dict()
    assert all(torch.equal(body[k], state[k]) for k in body)
    assert (
        "replace it with this network's 3×3" in capsys.readouterr().err
    )  # the sample's stem is small


def test_a_detector_is_written_beside_its_checkpoint_and_comes_back(checkpoint, detector):
    assert export.main([str(checkpoint), "--to", "detectron2"]) == 0
    loaded, report = load_detector(checkpoint.with_name("last.detectron2.pkl"), msra=False)
    assert report.layout == "detectron2"
    expected = detector.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in loaded.state_dict().items())


def test_the_configuration_says_how_detectron2_builds_it(checkpoint):
    export.main([str(checkpoint), *TO])
    settings = yaml.safe_load(checkpoint.with_name("last.detectron2.yaml").read_text())
    model = settings["MODEL"]
    assert model["PIXEL_MEAN"] == [123.675, 116.28, 103.53]
    assert model["PIXEL_STD"] == [58.395, 57.12, 57.375]
    assert settings["INPUT"]["FORMAT"] == "RGB"
    assert model["RESNETS"]["DEPTH"] == 50
    assert model["RESNETS"]["STEM_OUT_CHANNELS"] == 8
    assert model["RESNETS"]["RES2_OUT_CHANNELS"] == 32
    assert model["RESNETS"]["NORM"] == "FrozenBN"
    assert model["RESNETS"]["STRIDE_IN_1X1"] is False
    assert model["RETINANET"] == {"NUM_CLASSES": 2, "NUM_CONVS": 2}
    assert model["ANCHOR_GENERATOR"]["SIZES"][0] == [32.0, 40.0, 50.0]


def test_a_detector_on_msras_weights_takes_detectron2s_default_pixels(detector, tmp_path):
    spec = DetectorSpec(**(detector.spec.to_dict() | {"stride_in_1x1": True}))
    content = {"detector": spec.to_dict(), "state_dict": detector.state_dict()}
    torch.save(content, tmp_path / "last.pt")
    assert export.main([str(tmp_path / "last.pt"), *TO]) == 0
    settings = yaml.safe_load((tmp_path / "last.detectron2.yaml").read_text())
    assert settings["MODEL"]["PIXEL_MEAN"] == [103.53, 116.28, 123.675]
    assert settings["MODEL"]["PIXEL_STD"] == [1.0, 1.0, 1.0]
    assert settings["INPUT"]["FORMAT"] == "BGR"
    assert settings["MODEL"]["RESNETS"]["STRIDE_IN_1X1"] is True
    loaded = load_detector(tmp_path / "last.detectron2.pkl", msra=True)[0]
    torch.testing.assert_close(loaded.state_dict(), detector.state_dict(), rtol=1e-6, atol=0)


def test_a_file_that_reads_back_otherwise_is_an_error(checkpoint, monkeypatch, capsys):
    write = exporting.write_numpy_pickle

    def damage(file, content):
        model = {k: v + 1 if k.endswith("stem.conv1.weight") else v for k, v in
                 content["model"].items()}  # fmt: skip
        write(file, {**content, "model": model})

    monkeypatch.setattr(exporting, "write_numpy_pickle", damage)
    assert export.main([str(checkpoint), *TO]) == 1
    error = capsys.readouterr().err
    assert "1 entries read back differ" in error
    assert "backbone.bottom_up.stem.conv1.weight" in error


def test_what_detectron2_has_no_network_for_is_refused(tmp_path, capsys):
    state = create_backbone("mobilenet_v2", width=0.25).state_dict()
    content = {"backbone": {"arch": "mobilenet_v2", "width": 0.25}, "state_dict": state}
    torch.save(content, tmp_path / "a.pt")
    assert export.main([str(tmp_path / "a.pt"), *TO]) == 1
    assert "expected those of a torchvision ResNet" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "a.pt"]


def test_a_checkpoint_that_does_not_exist_is_one_message(capsys):
    assert export.main(["absent.pt"]) == 1
    error = capsys.readouterr().err
    assert "which is no file" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.pt", "--out", "b.pth"], "expected a name that ends in .pkl"),
        (["a.pkl", "--out", "a.pkl"], "the checkpoint itself"),
    ],
)
def test_bad_options_end_the_program(words, message, capsys):
    assert export.main([*words, *TO]) == 1
    assert message in capsys.readouterr().err


def test_another_layout_is_no_option(capsys):
    with pytest.raises(SystemExit) as stop:
        export.main(["a.pt", "--to", "caffe"])
    assert stop.value.code == 2 and "--to" in capsys.readouterr().err


def test_options_of_a_classifiers_shape_are_refused(checkpoint, capsys):
    assert export.main([str(checkpoint), "--to", "detectron2", "--width", "0.5"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "width: got 0.5 with a detector, whose file says it; leave --width out" in said
