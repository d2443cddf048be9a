"""Files that can be read and say what cannot be: each is refused by its name, entry and value."""

import json
import warnings

import pytest
import torch
from safetensors.torch import save_file

from mgd_ssl.detection.checkpoints import load_detector
from mgd_ssl.detection.detectron2 import retinanet_to_detectron2
from mgd_ssl.detection.retinanet import DetectorSpec, create_detector
from mgd_ssl.models import (
    BackboneSpec,
    KeyReport,
    create_backbone,
    create_classifier,
    load_backbone,
    load_classifier,
)
from mgd_ssl.models.filling import fill

SPEC = {"arch": "resnet18", "width": 0.125, "stem": "small", "stem_stride": 2}
NORM = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def state():
    return create_backbone(**SPEC).state_dict()


def quantized(weight):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)


def spoiled(weight, value):
    weight = weight.clone()
    weight.view(-1)[3] = value
    return weight


# name -> (entries of the file, the entry that the message names, what it says of it)
ENTRIES = {
    "empty normalisation": ({"normalisation": {}}, "normalisation", "mean and std"),
    "a list for it": ({"normalisation": [0.5]}, "normalisation", "a mapping of mean, std"),
    "no std": ({"normalisation": {"mean": NORM["mean"]}}, "normalisation", "mean and std"),
    "a number for mean": (
        {"normalisation": NORM | {"mean": 0.5}},
        "normalisation.mean",
        "a list of 3, each a finite number",
    ),
    "two means": ({"normalisation": NORM | {"mean": [0.5, 0.5]}}, "normalisation.mean", "of 3"),
    "text for a mean": (
        {"normalisation": NORM | {"mean": ["0.5", 0.5, 0.5]}},
        r"normalisation.mean\[0\]",
        "'0.5' (text), expected a finite number",
    ),
    "a flag for a mean": (
        {"normalisation": NORM | {"mean": [True, 0.5, 0.5]}},
        r"normalisation.mean\[0\]",
        "True (a flag)",
    ),
    "a mean of nan": (
        {"normalisation": NORM | {"mean": [NAN] * 3}},
        r"normalisation.mean\[0\]",
        "nan",
    ),
    "std 0": ({"normalisation": NORM | {"std": [0.2, 0, 0.2]}}, "normalisation.std", "above 0"),
    "std below 0": ({"normalisation": NORM | {"std": [-1.0] * 3}}, "normalisation.std", "above 0"),
    "std inf": ({"normalisation": NORM | {"std": [INF] * 3}}, r"normalisation.std\[0\]", "inf"),
    "a list for the size": ({"size": []}, "size", "[] (list), expected a whole number"),
    "size below 0": ({"size": -3}, "size", "-3 (int), expected 1 to 16384"),
    "size 0": ({"size": 0}, "size", "1 to 16384"),
    "size as text": ({"size": "32"}, "size", "'32' (text), expected a whole number"),
    "size as a flag": ({"size": True}, "size", "True (a flag), expected a whole number"),
    "a broken size": ({"size": 32.5}, "size", "32.5 (float), expected a whole number"),
    "an unknown key": ({"backbone": SPEC | {"depth": 3}}, "backbone", "unknown entry 'depth'"),
    "no arch": ({"backbone": {"width": 1.0}}, "backbone", "an entry arch in it"),
    "text for the spec": ({"backbone": "resnet18"}, "backbone", "a mapping of arch"),
    "width as text": ({"backbone": SPEC | {"width": "0.125"}}, "backbone.width", "(text)"),
    "width below 0": ({"backbone": SPEC | {"width": -1}}, "backbone.width", "a factor above 0"),
    "width nan": ({"backbone": SPEC | {"width": NAN}}, "backbone.width", "nan (float)"),
    "a huge width": ({"backbone": SPEC | {"width": 1e9}}, "backbone.width", "at most 16"),
    "another stem": ({"backbone": SPEC | {"stem": "large"}}, "backbone.stem", "imagenet, small"),
    "stride as a flag": (
        {"backbone": SPEC | {"stem_stride": True}},
        "backbone.stem_stride",
        "1, 2",
    ),
    "arch as a number": ({"backbone": SPEC | {"arch": 18}}, "backbone.arch", "18 (int)"),
    "a path for arch": (
        {"backbone": SPEC | {"arch": "../x"}},
        "backbone.arch",
        "name of a network",
    ),
    "arch as a list": ({"arch": ["resnet18"]}, "arch", "(list), expected text"),
    "an empty detector": ({"detector": {}}, "detector", "an entry arch in it"),
    "a detector of text": ({"detector": "retinanet"}, "detector", "a mapping of arch"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_what_a_file_says_is_checked(name, state, tmp_path):
    entries, entry, said = ENTRIES[name]
    path = tmp_path / "last.pt"
    torch.save({"state_dict": state, **entries}, path)
    with pytest.raises(ValueError, match=rf"{path}, {entry}: got|{path}, {entry}\.") as error:
        load_backbone(path)
    assert said in str(error.value) and "expected" in str(error.value)


# name -> (what becomes of the first convolution's weight (8,3,3,3), what the message says of it)
WEIGHTS = {
    "a scalar": (lambda w: torch.tensor(1.0), r"got \(\), expected the weight of a convolution"),
    "a vector": (lambda w: w.flatten(), r"got \(216,\), expected the weight of a convolution"),
    "empty": (lambda w: w[:0], r"got \(0, 3, 3, 3\), expected the weight"),
    "sparse": (
        lambda w: w.to_sparse(),
        "got a tensor of layout torch.sparse_coo, expected a d",
    ),
    "int8": (lambda w: w.to(torch.int8), "got torch.int8, expected a dense tensor of floating"),
    "int64": (lambda w: w.long(), "got torch.int64"),
    "a flag each": (lambda w: w > 0, "got torch.bool"),
    "complex": (lambda w: w.to(torch.complex64), "got torch.complex64"),
    "quantized": (quantized, "got a quantized tensor"),
    "without data": (lambda w: w.to("meta"), "got a tensor without data"),
    "a list": (lambda w: w.tolist(), "got list"),
    "nan": (lambda w: spoiled(w, NAN), "got 1 of 216 values that are NaN or infinite"),
    "inf": (lambda w: spoiled(w, -INF), "got 1 of 216 values that are NaN or infinite"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_dense_finite_numbers(name, state, tmp_path):
    change, said = WEIGHTS[name]
    path = tmp_path / "a.pt"
    torch.save(state | {"conv1.weight": change(state["conv1.weight"])}, path)
    with pytest.raises(ValueError, match=rf"{path}, conv1\.weight: {said}|conv1\.weight: {said}"):
        load_backbone(path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("bn1.weight", torch.tensor(1.0), r"shape of bn1\.weight: got \(\), expected \(8,\)"),
        ("bn1.bias", [0.0] * 8, r"bn1\.bias: got a list, expected a dense tensor"),
        ("bn1.bias", None, r"bn1\.bias: got a NoneType"),
        ("bn1.running_var", torch.full((8,), -1.0), "got a variance of -1, expected 0 or more"),
        ("layer4.1.bn2.running_mean", torch.full((64,), INF), "64 of 64 values that are NaN"),
        ("fc.weight", torch.full((10, 64), NAN), r"fc\.weight: got 640 of 640 values"),
    ],
)
def test_every_entry_is_checked(key, value, said, state, tmp_path):
    torch.save(state | {key: value}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=said):
        load_backbone(tmp_path / "a.pt")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_of_any_width_is_a_number(kind, state, tmp_path):
    torch.save({k: v.to(kind) for k, v in state.items()}, tmp_path / "a.pt")
    network, _ = load_backbone(tmp_path / "a.pt")  # the counters too, as network.half() leaves none
    assert network.conv1.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("entry", "text", "said"),
    [
        ("backbone", "{'arch': 'resnet18'}", "metadata backbone: got .* expected JSON"),
        ("normalisation", "", "metadata normalisation: got '', expected JSON"),
        ("normalisation", '{"mean": [NaN, 0, 0], "std": [1, 1, 1]}', r"mean\[0\]: got nan"),
        ("size", "large", "metadata size: got 'large', expected JSON"),
        ("size", "[32]", r"size: got \[32\] \(list\), expected a whole number"),
        ("backbone", "[" * 100_000, "metadata backbone: got .* expected JSON"),
        ("backbone", json.dumps(SPEC | {"arch": None}), r"backbone\.arch: got None"),
    ],
)
def test_metadata_of_safetensors_is_checked(entry, text, said, state, tmp_path):
    path = tmp_path / "student.safetensors"
    save_file(state, path, {entry: text})
    with pytest.raises(ValueError, match=said) as error:
        load_backbone(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (["a", "b"], "expected a name for each of the 3 outputs"),
        ("abc", r"classes: got 'abc' \(text\), expected a list of values, each text"),
        ([1, 2, 3], r"classes\[0\]: got 1 \(int\), expected text"),
        (3, r"classes: got 3 \(int\), expected a list"),
    ],
)
def test_class_names_are_as_many_texts_as_outputs(classes, said, tmp_path):
    content = {"state_dict": create_classifier(3, **SPEC).state_dict(), "classes": classes}
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=said):
        load_classifier(tmp_path / "a.pt")
    load_backbone(tmp_path / "a.pt")  # has no outputs


DETECTOR = {"arch": "resnet18", "width": 0.125, "fpn_channels": 8, "head_convs": 1}
SIDES = {"min_size": 32, "max_size": 32, "smallest_anchor": 8.0}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"category_ids": ["1", "2"]}, r"detector\.category_ids\[0\]: got '1' \(text\)"),
        ({"category_ids": [True, 2]}, r"detector\.category_ids\[0\]: got True \(a flag\)"),
        ({"category_ids": []}, r"detector\.category_ids: got \(\), expected one distinct id"),
        ({"category_ids": [1, 1]}, "expected one distinct id per class"),
        ({"category_ids": 2}, r"detector\.category_ids: got 2 \(int\), expected a list"),
        ({"norm_eps": -1e-5}, r"norm_eps: got -1e-05, expected 0 or more"),
        ({"norm_eps": "1e-5"}, r"detector\.norm_eps: got '1e-5' \(text\)"),
        ({"norm_eps": NAN}, r"detector\.norm_eps: got nan"),
        ({"min_size": 0}, "min_size: got 0"),
        ({"min_size": "32"}, r"detector\.min_size: got '32' \(text\)"),
        ({"max_size": 32.5}, r"detector\.max_size: got 32\.5 \(float\)"),
        ({"smallest_anchor": INF}, r"detector\.smallest_anchor: got inf"),
        ({"fpn_channels": 0}, "got 0 fpn_channels"),
        (
            {"stride_in_1x1": "no"},
            r"detector\.stride_in_1x1: got 'no' \(text\), expected true or false",
        ),
        ({"caffe": 0}, r"detector\.stride_in_1x1: got 0 \(int\), expected true or false"),
        ({"box_loss": "l2"}, r"detector\.box_loss: got 'l2'.*one of l1, giou"),
        ({"anchors": 9}, "unknown entry 'anchors'"),
        ({"arch": "os:getcwd"}, r"detector\.arch: got 'os:getcwd', which names code"),
    ],
)
def test_what_a_detectors_file_says_is_checked(change, said, tmp_path):
    spec = DetectorSpec(**DETECTOR, **SIDES, category_ids=(1, 2))
    content = {"state_dict": create_detector(spec).state_dict(), "detector": spec.to_dict()}
    torch.save(content, tmp_path / "whole.pt")
    assert load_detector(tmp_path / "whole.pt")[0].spec == spec
    content["detector"] = content["detector"] | change
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=said) as error:
        load_detector(tmp_path / "a.pt")
    assert str(tmp_path / "a.pt") in str(error.value)


def test_a_head_that_is_left_out_may_be_anything(state, tmp_path):
    for head in (torch.ones(3, 64).to_sparse(), torch.ones(3, 64).to("meta"), torch.ones(3).long()):
        torch.save(state | {"projector.weight": head}, tmp_path / "a.pt")
        assert load_backbone(tmp_path / "a.pt")[1].head == ["projector.weight"]


def test_whole_numbers_are_taken_where_the_network_has_them(tmp_path):
    timm = pytest.importorskip("timm")
    network = timm.create_model("mobilenetv1_100", num_classes=0)
    network.register_buffer("places", torch.arange(3))
    report = KeyReport(tmp_path / "a.pt", "plain", BackboneSpec("mobilenetv1_100"))
    assert fill(network, network.state_dict(), report, "").missing == []
    with pytest.raises(ValueError, match=r"a\.pt, places: got torch\.complex64"):
        places = {"places": torch.ones(3, dtype=torch.complex64)}
        fill(network, network.state_dict() | places, report, "")


@pytest.mark.parametrize("value", [torch.tensor(1.0), torch.ones(3), torch.ones(7, 3, 3, 3)])
@pytest.mark.parametrize("key", ["head.cls_score.weight", "backbone.bottom_up.stem.conv1.weight"])
def test_a_detectron2_file_of_odd_shapes_is_refused(value, key, tmp_path):
    spec = DetectorSpec(arch="resnet50", width=0.125, category_ids=(1,), fpn_channels=8)
    state = retinanet_to_detectron2(create_detector(spec).state_dict(), spec)
    torch.save({"model": state | {key: value}}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="expected"):
        load_detector(tmp_path / "a.pth", msra=True)


def test_a_detectors_weights_are_dense_finite_numbers(tmp_path):
    spec = DetectorSpec(**DETECTOR, **SIDES, category_ids=(1, 2))
    state, key = create_detector(spec).state_dict(), "head.regression_head.bbox_reg.weight"
    for value, said in (
        (spoiled(state[key], NAN), "got 1 of 2592 values that are NaN"),
        (state[key].to_sparse(), "layout torch.sparse_coo"),
        (torch.tensor(1.0), r"has '.*bbox_reg\.weight' of shape \(\)"),
    ):
        torch.save(state | {key: value}, tmp_path / "a.pt")
        with pytest.raises(ValueError, match=said):
            load_detector(tmp_path / "a.pt")
