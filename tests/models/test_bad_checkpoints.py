"""A file that is no whole checkpoint is refused: what was given, got, expected, and the remedy."""

import gzip
import io
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mgd_ssl.models import create_backbone, load_backbone

WIDTH = 0.125


def random_state(arch="resnet18", width=WIDTH):
    return create_backbone(arch, width=width).state_dict()


def zipped(*names):
    with zipfile.ZipFile(content := io.BytesIO(), "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return content.getvalue()


def arrays():
    np.savez(content := io.BytesIO(), weight=np.zeros(3))
    return content.getvalue()


@pytest.fixture
def state():
    return random_state()


def test_a_file_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.pt, which is no file; expected a checkpoint"):
        load_backbone(tmp_path / "absent.pt")


def test_settings_in_place_of_a_run_are_told_from_a_pickle(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("command: pretrain\ndata: []\nout: runs/resnet18\n")  # a pickle's opcode is c
    said = r"config\.yaml is a file of settings; give the run's directory"
    with pytest.raises(ValueError, match=said):
        load_backbone(path)
    path.rename(tmp_path / "settings")
    with pytest.raises(ValueError, match="settings is no checkpoint that can be read"):
        load_backbone(tmp_path / "settings")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a checkpoint's path"):
        load_backbone(tmp_path)


@pytest.mark.parametrize("name", ["a.pth.tar", "a.safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(name, kept, state, tmp_path):
    path = tmp_path / name
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(ValueError, match=r"truncated(.|\n)*copy or download it again") as error:
        load_backbone(path)
    assert name in str(error.value)


def test_a_truncated_file_of_the_old_format_is_refused(state, tmp_path):
    path = tmp_path / "a.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="copy or download it again"):
        load_backbone(path)


@pytest.mark.parametrize("content", [b"<html>404 Not Found</html>", b"version 1\n" * 99, b"\x80"])
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_file_that_is_no_checkpoint_is_refused(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="copy or download it again"):
        load_backbone(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (b"", "is empty.*download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "is a web page.*download it again"),
        (gzip.compress(b"weights", mtime=0), "is a gzip archive; unpack it"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file, as Keras"),
        (b"PAR1" + bytes(99), "a Parquet file"),
        (zipped("a/1.jpg", "a/2.jpg"), "begins with a/1.jpg; .* images is given as DATA"),
        (zipped("x/net.pth")[:-30], "is truncated: its end is missing; copy or download it again"),
        (zipped(), "is an empty zip archive"),
        (arrays(), r"is an archive of NumPy arrays \(.npz\)"),
    ],
)
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_what_was_given_in_a_checkpoints_place_is_named(content, remedy, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=remedy):
        load_backbone(tmp_path / name)


def test_a_files_content_decides_what_it_is_and_not_its_name(state, tmp_path):
    save_file(state, tmp_path / "a.pt")
    torch.save(state, tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        network, _ = load_backbone(tmp_path / name, arch="resnet18", width=WIDTH)
        assert torch.equal(network.conv1.weight, state["conv1.weight"])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_torchscript_program_is_named_and_not_run(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"TorchScript program.*Save the state_dict\(\)"):
        load_backbone(tmp_path / "a.pt")


@pytest.mark.parametrize("channels", [1, 4])
def test_a_network_of_other_images_than_rgb_is_told_so(channels, state, tmp_path):
    weight = state["conv1.weight"]
    state["conv1.weight"] = torch.cat([weight, weight], 1)[:, :channels]
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=rf"takes images of {channels} channels.*\(8, 3, 7, 7\)"):
        load_backbone(tmp_path / "a.pt")


class Trainer:
    """A class that only the file's writer has."""


@pytest.mark.parametrize("content", [Trainer(), {"state_dict": {}, "trainer": Trainer()}])
def test_pickled_objects_are_named_and_not_loaded(content, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"holds a pickled \S*Trainer, expected tensors only"):
        load_backbone(tmp_path / "a.pt")


def test_a_whole_network_is_refused_and_its_state_dict_asked_for(tmp_path):
    torch.save(create_backbone("resnet18", width=WIDTH), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"ThinResNet.*Save its state_dict\(\) alone"):
        load_backbone(tmp_path / "a.pt")


def test_a_list_is_refused(tmp_path):
    torch.save([torch.zeros(3)], tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"holds a list, expected a dict.*network\.state_dict\(\)"):
        load_backbone(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "entries"), [({}, "none"), ({"epoch": 3, "lr": 0.1}, "epoch, lr")]
)
def test_a_dict_without_tensors_is_refused(content, entries, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    message = f"holds no state dict; its entries are {entries}; expected one of the layouts"
    with pytest.raises(ValueError, match=message):
        load_backbone(tmp_path / "a.pt")


def test_tensors_that_are_no_network_are_refused(tmp_path):
    torch.save({"boxes": torch.zeros(4)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"cannot be told from its keys \(boxes, …\); name it"):
        load_backbone(tmp_path / "a.pt")


def test_another_architecture_is_refused_and_the_shapes_named(tmp_path):
    torch.save(random_state("resnet50"), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="a partial load is refused") as error:
        load_backbone(tmp_path / "a.pt", arch="resnet18")
    lines = str(error.value).splitlines()
    assert "  shape of layer1.0.conv1.weight: got (8, 8, 1, 1), expected (8, 8, 3, 3)" in lines
    assert any(line.startswith("  unexpected: layer1.0.conv3.weight") for line in lines)
    assert lines[-1].strip().startswith("Name the architecture that the file holds: --arch")


def test_another_width_is_refused_and_the_shapes_named(state, tmp_path):
    torch.save(state, tmp_path / "a.pt")
    message = r"shape of conv1\.weight: got \(8, 3, 7, 7\), expected \(16, 3, 7, 7\)"
    with pytest.raises(ValueError, match=message) as error:
        load_backbone(tmp_path / "a.pt", width=0.25)
    assert "keys: 20 matched" in str(error.value)  # the counters alone have one shape


def test_a_part_of_a_network_is_refused(state, tmp_path):
    part = {k: v for k, v in state.items() if not k.startswith("layer4.")}
    torch.save(part, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"missing: layer4\.0\.conv1\.weight"):
        load_backbone(tmp_path / "a.pt", arch="resnet18")
    with pytest.raises(ValueError, match=r"a ResNet with \[2, 2, 2, 0\] blocks"):
        load_backbone(tmp_path / "a.pt")


def test_entries_that_the_network_lacks_are_refused(state, tmp_path):
    torch.save(state | {"layer1.0.se.weight": torch.zeros(2)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"1 unexpected(.|\n)*unexpected: layer1\.0\.se\.weight"):
        load_backbone(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("name", "start", "said"),
    [
        ("student.onnx", b"\x08\x0a\x12\x07pytorch", "is an ONNX export; give the run's directory"),
        ("student.pt2", zipped("model/version"), "is a program of torch.export; give the run's"),
        ("features.parquet", b"PAR1\x15\x04", "is a Parquet file; give a file of PyTorch's"),
    ],
)
def test_an_export_is_named_for_what_it_is_and_not_called_damaged(tmp_path, name, start, said):
    (tmp_path / name).write_bytes(start)
    with pytest.raises(ValueError, match=said) as caught:
        load_backbone(tmp_path / name)
    assert "again" not in str(caught.value)
