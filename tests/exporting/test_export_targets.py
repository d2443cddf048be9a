"""An exported file, loaded by the lines that are printed with it, is the network it came from."""

import errno
import json
from pathlib import Path

import pytest
import torch
from official_files import dinov2_shapes, random_state
from safetensors import safe_open

from mgd_ssl.commands import export
from mgd_ssl.data import CenterCrop
from mgd_ssl.exporting import packages
from mgd_ssl.exporting import run as exporting
from mgd_ssl.exporting.comparison import compare
from mgd_ssl.exporting.targets import safetensors
from mgd_ssl.files import write_error
from mgd_ssl.images import IMAGENET_MEAN, IMAGENET_STD
from mgd_ssl.models import create_backbone, create_classifier, load_backbone, load_classifier

THIN = {"arch": "resnet18", "width": 0.125, "stem": "small", "stem_stride": 2}
PLAIN = {"arch": "shufflenet_v2_x0_5"}
SIZE = 32


def save(folder: Path, arch: dict, classes: tuple[str, ...] = ()) -> Path:
    """A network with norms that do something, as a run writes it."""
    torch.manual_seed(0)
    network = create_classifier(len(classes), **arch) if classes else create_backbone(**arch)
    for name, value in network.state_dict().items():
        if "running" in name:
            value.uniform_(*((0.5, 1) if name.endswith("var") else (-0.5, 0.5)))
    content = {"backbone": arch, "state_dict": network.state_dict(), "size": SIZE}
    content |= {"classes": list(classes)} if classes else {}
    torch.save(content, folder / "last.pt")
    return folder / "last.pt"


def loaded(said: str, images: torch.Tensor) -> torch.Tensor:
    """What a network says that is loaded by the lines that a command printed."""
    names = {"images": images.numpy() if "onnxruntime" in said else images}
    exec(said.partition("Load it:\n")[2], names)
    for output in ("features", "logits"):
        if output in names:
            return torch.as_tensor(names[output])
    return names["network"](images)


@pytest.mark.parametrize(
    ("to", "arch", "classes"),
    [
        ("safetensors", THIN, ()),
        ("safetensors", THIN, ("cat", "dog", "fish")),
        ("torchvision", PLAIN, ()),
        ("torchvision", {"arch": "mobilenet_v3_small"}, ("cat", "dog", "fish")),
        ("torchvision", {"arch": "mobilenet_v2", "width": 0.25}, ()),
        ("timm", {"arch": "timm/test_vit", "options": {"img_size": SIZE}}, ()),
        ("timm", {"arch": "timm/test_resnet"}, ("cat", "dog", "fish")),
        ("onnx", THIN, ("cat", "dog", "fish")),
        ("pt2", THIN, ()),
    ],
)
def test_the_printed_lines_load_the_same_network_of_the_input_that_the_file_states(
    to, arch, classes, tmp_path, capsys
):
    checkpoint = save(tmp_path, arch, classes)
    out = tmp_path / f"new/a.{suffix(to)}"
    assert export.main([str(checkpoint), "--to", to, "--out", str(out)]) == 0
    original, report = (load_classifier if classes else load_backbone)(checkpoint)
    images = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, got = original(images), loaded(capsys.readouterr().out, images)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    table = json.loads(out.with_name(f"{out.name}.json").read_text())
    (row,) = table["differences"]
    assert row["output"] == ("logits" if classes else "features")
    assert row["shape"] == [8, len(classes) or report.features]
    assert row["max_abs_difference"] <= 1e-5 * row["max_abs_value"]
    assert json.loads(metadata(out)["input"]) == {
        "layout": "NCHW",
        "channels": "RGB",
        "size": SIZE,
        "value_range": [0, 1],
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "crop": CenterCrop.of(SIZE).to_dict(),
    }
    assert table["input"] == json.loads(metadata(out)["input"])


def suffix(to: str) -> str:
    return {"onnx": "onnx", "pt2": "pt2", "detectron2": "pkl"}.get(to, "safetensors")


def metadata(path: Path) -> dict[str, str]:
    if path.suffix == ".onnx":
        import onnx

        return {p.key: p.value for p in onnx.load(path).metadata_props}
    if path.suffix == ".pt2":
        found = {"input": ""}
        torch.export.load(path, extra_files=found)
        return found
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_the_same_network_gives_the_same_bytes(tmp_path):
    path = save(tmp_path, THIN)
    files = [tmp_path / f"{i}.safetensors" for i in range(4)]
    for file in files:
        assert export.main([str(path), "--to", "safetensors", "--out", str(file)]) == 0
    assert len({file.read_bytes() for file in files}) == 1


def test_a_file_that_computes_something_else_is_not_left_behind(tmp_path, capsys, monkeypatch):
    checkpoint, write = save(tmp_path, PLAIN), safetensors.save

    def damaged(state, metadata):
        return write(state | {"conv5.1.bias": state["conv5.1.bias"] + 1e-2}, metadata)

    monkeypatch.setattr(safetensors, "save", damaged)
    assert export.main([str(checkpoint), "--to", "torchvision"]) == 1
    assert "torchvision computes other features" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [checkpoint]


@pytest.mark.parametrize("earlier", [False, True])
def test_a_full_disk_leaves_what_stood_there(tmp_path, capsys, monkeypatch, earlier):
    checkpoint, folder = save(tmp_path, THIN), tmp_path / "out"
    words = [str(checkpoint), "--out", str(folder / "net.safetensors")]
    if earlier:
        assert export.main(words) == 0
        torch.save(torch.load(checkpoint) | {"size": 64}, checkpoint)
    before = {path.name: path.read_bytes() for path in folder.glob("*")}

    def full(path, result):
        error = OSError(errno.ENOSPC, "No space left on device")
        raise write_error(path, error) from error

    with monkeypatch.context() as patched:
        patched.setattr(exporting, "write_json", full)
        assert export.main(words) == 1
    said = capsys.readouterr().err
    assert "out/net.safetensors: could not be written: [Errno 28] No space left on device;" in said
    kept = "the one before it stays" if earlier else "nothing was left behind"
    assert kept in said
    assert {path.name: path.read_bytes() for path in folder.glob("*")} == before
    assert export.main(words) == 0


@pytest.mark.parametrize(
    ("to", "arch", "reason", "fitting"),
    [
        ("torchvision", {"arch": "timm/test_vit"}, "no network timm/test_vit", "timm"),
        ("torchvision", {"arch": "mnasnet0_5"}, "from PyTorch's own files", "safetensors or onnx"),
        ("torchvision", THIN, "its stem is small", "safetensors or onnx or pt2 or detectron2"),
        ("timm", {"arch": "resnet18", "width": 0.125}, "of width 0.125", "safetensors or onnx"),
        (
            "torchvision",
            {"arch": "timm/efficientnet_b0"},
            "differ in",
            "safetensors or timm or onnx or pt2",
        ),
    ],
)
def test_a_network_that_a_target_lacks_is_refused_with_those_that_have_it(
    to, arch, reason, fitting, tmp_path, capsys
):
    checkpoint = save(tmp_path, arch)
    assert export.main([str(checkpoint), "--to", to]) == 1
    error = capsys.readouterr().err
    assert reason in error
    assert fitting in error.partition("export it --to ")[2]
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_dinov2_is_traced_for_any_batch_and_goes_to_timm_at_its_own_size_alone(tmp_path, capsys):
    path = tmp_path / "dinov2_vits14_pretrain.pth"
    torch.save(random_state(dinov2_shapes(128, 2, side=4)), path)
    assert export.main([str(path), "--to", "pt2", "--size", "28"]) == 0
    assert export.main([str(path), "--to", "timm", "--size", "28"]) == 1
    assert "at --size 56 both are the same" in capsys.readouterr().err
    assert export.main([str(path), "--to", "timm", "--size", "56"]) == 0


def test_a_missing_package_is_named_with_the_command_that_adds_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    assert export.main([str(tmp_path / "absent.pt"), "--to", "onnx"]) == 1
    error = capsys.readouterr().err
    assert "-m pip install 'onnx>=" in error
    assert "'onnxruntime>=" in error


def test_differences_are_those_of_hand_figures():
    wanted = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 2.0]])
    got = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1.5, 2.0]])
    rows = {id(x): x for x in (wanted, got)}

    def run(which):
        parts = iter([rows[which][:1], rows[which][1:]])
        return lambda images: {"features": next(parts)}

    (found,) = compare(run(id(wanted)), run(id(got)), torch.zeros(3, 3, 2, 2))
    assert found.max_abs_difference == 1.5
    assert found.max_abs_value == 4
    assert found.min_cosine == pytest.approx(0.8)  # (1.5, 2) and (0, 2)
    assert not found.agrees
