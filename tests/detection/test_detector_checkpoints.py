"""Detectors and bodies from every kind of file; anything but a whole one is refused."""

import pickle
import re
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from detector_checkpoints import filled, own, same, save
from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights, retinanet_resnet50_fpn

from mgd_ssl.detection.checkpoints import is_detector, load_detector
from mgd_ssl.detection.detectron2 import COCO_IDS, retinanet_to_detectron2
from mgd_ssl.detection.retinanet import DetectorSpec
from mgd_ssl.models import load_backbone

SAMPLE = Path(__file__).parents[2] / "mgd_ssl/data/sample/teacher.pth.tar"
NAMED = "retinanet_resnet50_fpn"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "frozen", "norm_eps": 0.0, "p6_from": "c5", "exact_anchors": True},
        {"arch": "resnet50", "stride_in_1x1": True, "stem": "small", "stem_stride": 2},
        {"head_norm": "group", "box_loss": "giou", "smallest_anchor": 8, "min_size": 64},
    ],
)
def test_a_checkpoint_of_this_project_gives_the_same_detector(options, tmp_path):
    detector = filled(**options)
    before = torch.get_rng_state()
    loaded, report = load_detector(save(tmp_path / "last.pt", own(detector)))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(loaded, detector)
    assert loaded.spec == report.spec == detector.spec
    assert report.layout == "detect"
    assert report.matched == len(detector.state_dict())
    assert (report.missing, report.unexpected) == ([], [])
    assert not any(module.training for module in loaded.modules())


@pytest.mark.parametrize("name", ["stride_in_1x1", "caffe"])  # before and after it was renamed
def test_strides_under_either_name_are_a_detectors_and_no_backbones(name, tmp_path):
    detector = filled("resnet50", stride_in_1x1=True)
    content = own(detector)
    content["detector"][name] = content["detector"].pop("stride_in_1x1")
    path = save(tmp_path / "last.pt", content)
    assert load_detector(path)[0].spec == detector.spec
    with pytest.raises(ValueError, match="its stride in the 1×1 convolutions"):
        load_backbone(path)


@pytest.mark.parametrize("entry", [None, "model", "state_dict"])
@pytest.mark.parametrize(
    "options",
    [
        {"category_ids": range(4), "norm": "frozen"},
        {"category_ids": range(4), "arch": "resnet50", "p6_from": "c5"},
        {"category_ids": range(4), "head_norm": "group", "box_loss": "giou", "p6_from": "c5"},
    ],
)
def test_a_state_dict_of_torchvisions_shows_its_detector(options, entry, tmp_path):
    detector = filled(**options)
    state = {f"module.{k}": v for k, v in detector.state_dict().items()}
    path = save(tmp_path / "model_25.pth", {entry: state, "epoch": 25} if entry else state)
    loaded, report = load_detector(path)
    assert same(loaded, detector)
    assert loaded.spec == detector.spec
    assert report.layout == "torchvision"


def test_towers_under_their_names_of_before_are_read(tmp_path):
    detector = filled(category_ids=range(3))
    old = {
        re.sub(r"(_head\.conv)\.(\d)\.0\.", lambda m: f"{m[1]}.{int(m[2]) * 2}.", k): v
        for k, v in detector.state_dict().items()
    }
    assert "head.classification_head.conv.2.bias" in old
    assert same(load_detector(save(tmp_path / "old.pth", old))[0], detector)


@pytest.mark.parametrize("name", ["model_final.pkl", "model_final.pth"])
@pytest.mark.parametrize("p6_from", ["c5", "p5"])
@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_a_detectron2_checkpoint_gives_the_same_detector(name, p6_from, norm, tmp_path):
    detector = filled(
        "resnet50", category_ids=(1, 2), exact_anchors=True, p6_from=p6_from, norm=norm
    )
    extra = {"pixel_mean": torch.rand(3, 1, 1), "anchor_generator.cell_anchors.0": torch.rand(9, 4)}
    state = retinanet_to_detectron2(detector.state_dict(), detector.spec)
    content = {"model": state | extra, "__author__": "Detectron2 Model Zoo"}
    loaded, report = load_detector(save(tmp_path / name, content))
    assert same(loaded, detector)
    assert loaded.spec == detector.spec
    assert report.layout == "detectron2"
    assert report.head == list(extra)


def test_a_detectron2_checkpoint_on_msras_weights_is_told_and_rewritten(tmp_path):
    detector = filled("resnet50", norm="frozen", stride_in_1x1=True, p6_from="c5")
    detector.backbone.body.bn1.running_mean.zero_()
    state = retinanet_to_detectron2(detector.state_dict(), detector.spec)
    path = save(tmp_path / "model_final.pkl", {"model": state})
    loaded, report = load_detector(path)
    assert report.spec.stride_in_1x1
    torch.testing.assert_close(loaded.state_dict(), detector.state_dict(), rtol=1e-6, atol=0)
    other = load_detector(path, msra=False)[0]
    weight = other.backbone.body.conv1.weight
    assert torch.equal(weight, state["backbone.bottom_up.stem.conv1.weight"])
    assert not other.spec.stride_in_1x1


def test_category_ids_are_cocos_for_detectron2s_eighty_outputs(tmp_path):
    detector = filled(category_ids=range(80), p6_from="c5")
    state = retinanet_to_detectron2(detector.state_dict(), detector.spec)
    path = save(tmp_path / "model_final.pkl", {"model": state})
    assert load_detector(path)[1].spec.category_ids == COCO_IDS
    given = tuple(range(100, 180))
    spec = load_detector(path, category_ids=given, smallest_anchor=16, min_size=64)[0].spec
    assert (spec.category_ids, spec.smallest_anchor, spec.min_size) == (given, 16, 64)


def test_torchvisions_weights_by_name_compute_what_torchvision_computes(monkeypatch):
    monkeypatch.setattr(
        RetinaNet_ResNet50_FPN_Weights,
        "get_state_dict",
        lambda self, **_: {
            k: v for k, v in source.state_dict().items() if not k.endswith("num_batches_tracked")
        },
    )
    torch.manual_seed(0)
    source = retinanet_resnet50_fpn(weights=None, weights_backbone=None)
    theirs = retinanet_resnet50_fpn(weights="COCO_V1").eval()
    ours, report = load_detector(NAMED)
    assert report.spec.category_ids == tuple(range(91))
    assert ours.spec == replace(
        DetectorSpec("resnet50", category_ids=range(91)), norm="frozen", norm_eps=0.0
    )
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(ours.backbone(x).values(), theirs.backbone(x).values(), strict=True):
            assert torch.equal(a, b)


def test_a_name_without_a_network_says_what_to_do(monkeypatch):
    def fail(*_, **__):
        raise URLError("no route")

    monkeypatch.setattr(RetinaNet_ResNet50_FPN_Weights, "get_state_dict", fail)
    with pytest.raises(ValueError, match=r"could not be downloaded(.|\n)*https://.*give the file"):
        load_detector(NAMED)
    with pytest.raises(ValueError, match=r"got 'COCO_V9' of .*, expected one of COCO_V1"):
        load_detector(f"{NAMED}:COCO_V9")


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
@pytest.mark.parametrize("layout", ["detect", "torchvision", "detectron2"])
def test_a_partial_load_is_refused_with_the_entry(change, layout, tmp_path):
    detector = filled(p6_from="c5")
    state = detector.state_dict()
    key = "backbone.body.layer3.1.conv2.weight"
    if layout == "detectron2":
        state = retinanet_to_detectron2(state, detector.spec)
        key = "backbone.bottom_up.res4.1.conv2.weight"
    if change == "missing":
        del state[key]
    else:
        state |= {key.replace("conv2", "conv2x") if change == "unexpected" else key: torch.ones(3)}
    content = {"detector": detector.spec.to_dict()} if layout == "detect" else {}
    path = save(tmp_path / "model.pth", {**content, "state_dict": state})
    names = {
        "missing": "missing: ",
        "unexpected": "unexpected: ",
        "shape": r"shape of .*got \(3,\)",
    }
    with pytest.raises(ValueError, match=rf"a partial load is refused(.|\n)*{names[change]}"):
        load_detector(path)


def test_files_without_a_detector_are_refused_with_a_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"holds no RetinaNet; .*--backbone-weights"):
        load_detector(SAMPLE)
    with pytest.raises(ValueError, match=f"which is no file; expected .*{NAMED}"):
        load_detector(tmp_path / "absent.pt")
    state = {"backbone.body.conv1.weight": torch.rand(8, 3, 7, 7)}
    with pytest.raises(ValueError, match=r"lacks 'head.* expected the entries of a RetinaNet"):
        load_detector(save(tmp_path / "a.pth", state))
    detector = filled().state_dict()
    detector["head.regression_head.bbox_reg.weight"] = torch.rand(24, 32, 3, 3)
    with pytest.raises(ValueError, match="6 anchors at each place, expected 9"):
        load_detector(save(tmp_path / "b.pth", detector))


def test_pickles_are_refused_without_being_run(tmp_path):
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": {"w": np.ones(2)}, "trainer": Path("x")}))
    with pytest.raises(ValueError, match=r"pathlib.* expected arrays only; loading it could run"):
        load_detector(path)


def test_detectors_are_told_from_backbones(tmp_path):
    assert is_detector(NAMED)
    assert not is_detector("resnet50")
    assert not is_detector(SAMPLE)
    assert is_detector(save(tmp_path / "a.pt", own(filled())))
    assert is_detector(save(tmp_path / "b.pth", filled().state_dict()))
