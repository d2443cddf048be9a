"""Features in a file: those of the network, whatever the kind of file and however often stopped."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import run_on_two
from image_files import class_tree
from pyarrow import parquet
from safetensors import safe_open

from mgd_ssl.commands import embed
from mgd_ssl.data import CenterCrop, open_source, shorter_side
from mgd_ssl.exporting import embedding
from mgd_ssl.files import WriteError
from mgd_ssl.models import load_backbone
from mgd_ssl.runs import output_folder

SIZE, BATCH = 32, 4
GIVEN = ["--size", str(SIZE), "-b", str(BATCH), "-j", "0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images in two classes, one of which cannot be decoded."""
    root = class_tree(tmp_path_factory.mktemp("embed") / "photos", {"cat": 5, "dog": 5})
    (root / "dog" / "1.png").write_bytes(b"no image")
    return root


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "PART_IMAGES", BATCH)


def make(teacher: Path, data: Path, out: Path, *more: str) -> int:
    return embed.main([str(teacher), str(data), "--out", str(out), *GIVEN, *more])


def read(path: Path) -> dict[str, object]:
    """What a file holds, by the reader of its library."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as found:
            content = {name: found[name] for name in found.files}
        facts = json.loads(str(content["metadata"]))
        return {**content, "files": content["files"].tolist(), "facts": facts}
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
        return {
            "features": np.array(table["features"].to_pylist(), np.float32),
            "labels": table["label"].to_numpy(),
            "files": table["file"].to_pylist(),
            "facts": json.loads(table.schema.metadata[b"mgd_ssl"]),
        }
    with safe_open(path, "np") as file:
        names = file.get_tensor("files").tobytes().decode().split("\0")
        content = {name: file.get_tensor(name) for name in ("features", "labels")}
        return {**content, "files": names, "facts": json.loads(file.metadata()["mgd_ssl"])}


def expected(teacher: Path, data: Path) -> tuple[list[str], np.ndarray, torch.Tensor]:
    """Names, labels and features, one image at a time."""
    network, report = load_backbone(teacher)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (report.mean, report.std))
    source, crop = open_source(data, "train"), CenterCrop(shorter_side(SIZE), SIZE)
    kept = [i for i in range(len(source)) if not source.describe(i).endswith("dog/1.png")]
    images = [crop.one(source.open(i), crop.draw(0, np.array([i]))[0]) for i in kept]
    with torch.no_grad():
        rows = [network(((x / 255 - mean) / std)[None]) for x in images]
    return [source.describe(i) for i in kept], source.labels[kept], torch.cat(rows)


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".safetensors"])
def test_a_file_holds_names_labels_and_the_features_of_the_network(
    suffix: str, teacher: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"new/features{suffix}"
    assert make(teacher, data, out) == 0
    content, (files, labels, features) = read(out), expected(teacher, data)
    assert content["files"] == files
    np.testing.assert_array_equal(content["labels"], labels)
    torch.testing.assert_close(torch.from_numpy(content["features"]), features)
    facts = content["facts"]
    assert (facts["images"], facts["unreadable"], facts["classes"]) == (9, 1, ["cat", "dog"])
    assert facts["crop"] == CenterCrop.of(SIZE).to_dict()
    assert "1 could not be decoded and are left out" in capsys.readouterr().err
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".safetensors"])
def test_a_stopped_command_goes_on_and_ends_with_the_same_bytes(
    suffix: str, teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = tmp_path / f"whole{suffix}", tmp_path / f"stopped{suffix}"
    assert make(teacher, data, whole) == 0
    written, write = list[str](), output_folder.write_part

    def some(path: Path, *rest: object) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, *rest)

    monkeypatch.setattr(output_folder, "write_part", some)
    assert make(teacher, data, stopped) == 130
    assert not stopped.exists()
    monkeypatch.setattr(
        output_folder,
        "write_part",
        lambda path, *rest: written.append(path.name) or write(path, *rest),
    )
    assert make(teacher, data, stopped) == 0
    assert written == [f"{n:06}.safetensors" for n in range(3)]
    assert stopped.read_bytes() == whole.read_bytes()


def test_parts_of_other_images_are_made_anew(
    teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = class_tree(tmp_path / "other", {"cat": 5, "dog": 5})
    monkeypatch.setattr(embedding, "write_whole", _full)
    assert make(teacher, other, tmp_path / "a.npz") == 1
    assert len(list((tmp_path / "a.npz.parts").glob("*.safetensors"))) == 3
    monkeypatch.undo()
    assert make(teacher, data, tmp_path / "a.npz") == 0
    assert make(teacher, data, tmp_path / "b.npz") == 0
    found, wanted = (read(tmp_path / name)["features"] for name in ("a.npz", "b.npz"))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def _full(path: Path, write: object) -> None:
    raise WriteError(f"{path}: the disk is full")


def test_several_processes_write_what_one_does(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # six parts, as the other processes have them
    given = ["--split", "train", "--size", "16", "--accelerator", "cpu", "--threads", "1"]
    words = [str(teacher), *given]
    run_on_two("embed", [*words, "--out", str(tmp_path / "two.npz")])
    assert embed.main([*words, "--out", str(tmp_path / "one.npz")]) == 0
    assert (tmp_path / "two.npz").read_bytes() == (tmp_path / "one.npz").read_bytes()


def test_a_file_that_exists_is_not_written_over(
    teacher: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.npz").write_text("mine")
    assert make(teacher, data, tmp_path / "a.npz") == 1
    assert "expected a free name" in capsys.readouterr().err
    assert make(teacher, data, tmp_path / "a.csv") == 1
    assert "expected a name that ends in .npz, .parquet, .safetensors" in capsys.readouterr().err
