"""A detector's body starts from a file of this project, MoCo, Detectron2 or Caffe2."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from detector_checkpoints import filled, random_like, save

from mgd_ssl.detection.checkpoints import load_body
from mgd_ssl.detection.detectron2 import backbone_to_detectron2
from mgd_ssl.detection.retinanet import DetectorSpec, create_detector
from mgd_ssl.models import backbone_state, create_backbone, load_backbone

SAMPLE = Path(__file__).parents[2] / "mgd_ssl/data/sample/teacher.pth.tar"


def test_a_pretrained_backbone_fills_the_body_and_nothing_else():
    backbone, known = load_backbone(SAMPLE)
    spec = known.spec.to_dict()
    detector = create_detector(DetectorSpec(**spec, category_ids=(1,), fpn_channels=16))
    before = {k: v.clone() for k, v in detector.state_dict().items()}
    report = load_body(detector, SAMPLE)
    assert report.matched == len(backbone_state(backbone))
    assert report.head == known.head
    for key, value in detector.state_dict().items():
        body = key.removeprefix("backbone.body.")
        expected = before[key] if body == key else backbone.state_dict()[body]
        assert torch.equal(value, expected)


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_a_body_of_detectron2_is_read(norm, tmp_path):
    backbone = create_backbone("resnet50", width=0.125)
    state = {k: random_like(v) for k, v in backbone_state(backbone).items()}
    content = {
        "model": backbone_to_detectron2(state) | {"stem.fc.weight": torch.rand(3, 4)},
        "__author__": "MOCO",
        "matching_heuristics": True,
    }
    detector = filled("resnet50", norm=norm)
    report = load_body(detector, save(tmp_path / "moco.pkl", content))
    assert report.head == ["stem.fc.weight"]
    loaded = detector.backbone.body.state_dict()
    assert all(torch.equal(loaded[k], state[k]) for k in loaded)
    assert report.matched == len(loaded)


def test_msras_body_in_caffe2s_names_is_read_into_a_detector_with_its_strides(tmp_path):
    detector = filled("resnet50", norm="frozen", stride_in_1x1=True)
    body = detector.backbone.body.state_dict()
    arrays = {"fc1000_w": np.ones((3, 4), "f4"), "conv1_b": np.zeros(8, "f4")}
    arrays |= {"res2_0_branch2a_w_momentum": np.ones(3, "f4"), 0: np.ones(3, "f4")}
    for key in (k for k in body if not k.endswith(("running_mean", "running_var"))):
        name = re.sub(r"^layer(\d)\.(\d+)\.", lambda m: f"res{int(m[1]) + 1}_{m[2]}_", key)
        name = re.sub(r"(conv|bn)([123])(?=\.)", lambda m: m[1] + "abc"[int(m[2]) - 1], name)
        if name.startswith("res"):
            name = name.replace("downsample.0.", "branch1_").replace("downsample.1.", "branch1_bn_")
            name = re.sub(r"_conv([abc])\.", r"_branch2\1_", name)
            name = re.sub(r"_bn([abc])\.", r"_branch2\1_bn_", name)
        else:
            name = name.replace("conva.", "conv1_").replace("bna.", "res_conv1_bn_")
        name = name.replace("bn_weight", "bn_s").replace("weight", "w").replace("bias", "b")
        arrays[name] = random_like(body[key]).numpy()
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps(arrays, 2))
    report = load_body(detector, path)
    assert report.matched == len(body)
    assert set(report.head) == {"fc1000_w", "conv1_b"}
    block = detector.backbone.body.layer3[2]
    assert torch.equal(block.conv2.weight, torch.from_numpy(arrays["res4_2_branch2b_w"]))
    assert torch.equal(block.bn3.bias, torch.from_numpy(arrays["res4_2_branch2c_bn_b"]))
    assert not block.bn3.running_mean.any()
    with pytest.raises(ValueError, match="create the detector with stride_in_1x1=True"):
        load_body(filled("resnet50"), path)


def test_bodies_that_do_not_fit_are_refused(tmp_path):
    backbone = create_backbone("resnet18", width=0.25)
    state = backbone_state(backbone)
    path = save(tmp_path / "wide.pth", {"arch": "resnet18", "state_dict": state})
    said = r"shape of conv1.weight(.|\n)*that the file holds: --arch resnet18 --width 0.25 --stem "
    with pytest.raises(ValueError, match=rf"partial load is refused(.|\n)*{said}imagenet"):
        load_body(filled(), path)
    thin = backbone_state(create_backbone("resnet18", width=0.125))
    content = {"arch": "resnet18", "state_dict": thin}
    gray = {"normalisation": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}}
    with pytest.raises(ValueError, match=r"normalized by mean \(0.5, .* expected ImageNet's"):
        load_body(filled(), save(tmp_path / "gray.pth", content | gray))
    deep = backbone_state(create_backbone("resnet50", width=0.125))
    path = save(tmp_path / "deep.pth", {"arch": "resnet50", "state_dict": deep})
    with pytest.raises(ValueError, match="create the detector with stride_in_1x1=False"):
        load_body(filled("resnet50", stride_in_1x1=True), path)
