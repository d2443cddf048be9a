"""Results and pages are not written over what is somebody else's, nor where nothing can be."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import listing

from mgd_ssl.commands import classify, export, knn_eval, linear_eval, report
from mgd_ssl.evaluation.results import write_json
from mgd_ssl.models import create_classifier
from mgd_ssl.models.provenance import sha256_of
from mgd_ssl.runs import knn as knn_run
from mgd_ssl.runs.overwriting import difference

Capture = pytest.CaptureFixture[str]
FEW = ["--limit", "40", "--limit-val", "20", "--knn-k", "1"]


@pytest.fixture
def checkpoint(teacher: Path, tmp_path: Path) -> Path:
    """A copy with nothing beside it."""
    path = tmp_path / "networks" / "last.pt"
    path.parent.mkdir()
    path.write_bytes(teacher.read_bytes())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of noise, 8 and 8 images."""
    draw = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("a", "b"):
            place = tmp_path / "data" / split / name
            place.mkdir(parents=True)
            for i in range(4):
                pixels = draw.integers(0, 255, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.png")
    return tmp_path / "data"


def knn(*argv: object) -> int:
    return knn_eval.main([*map(str, argv), "-j", "0"])


def data_of(path: Path) -> str:
    return str(json.loads(path.read_text())["data"])


def test_results_on_another_data_set_stand_beside_the_first(
    checkpoint: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (checkpoint.with_name(f"last.pt.knn{n}.json") for n in ("", "-2"))
    assert knn(checkpoint, *FEW) == 0
    before = first.read_bytes()
    for place in (folder, folder, folder.parent / "." / "data"):  # the same one again
        assert knn(checkpoint, place, "--size", 32, "--knn-k", 1) == 0
    monkeypatch.chdir(folder.parent)
    assert knn(checkpoint, "data", "--size", 32, "--knn-k", 1) == 0
    assert first.read_bytes() == before and Path(data_of(second)).resolve() == folder
    assert {p.name for p in checkpoint.parent.iterdir()} == {"last.pt", first.name, second.name}
    assert knn(checkpoint, *FEW, "--retrieve", 1) == 0  # the first again, with a picture
    assert {p.name for p in checkpoint.parent.glob("*.png")} == {"last.pt.knn.png"}


def test_another_vote_stands_beside_the_first_and_neighbors_are_kept(
    checkpoint: Path, capsys: Capture
) -> None:
    first, second, third = (checkpoint.with_name(f"last.pt.knn{n}.json") for n in ("", "-2", "-3"))
    out = checkpoint.with_name("out.json")
    assert knn(checkpoint, *FEW, "--retrieve", 1) == 0
    for other in (("--knn-k", 3), ("--knn-t", 0.5)):
        assert knn(checkpoint, *FEW, *other) == 0
    assert "retrieval" in json.loads(first.read_text())
    assert json.loads(second.read_text())["knn_k"] == [3]
    assert json.loads(third.read_text())["knn_t"] == [0.5]
    assert {p.name for p in checkpoint.parent.glob("*.png")} == {"last.pt.knn.png"}
    for drawn, status in ((1, 0), (1, 0), (0, 1)):
        assert knn(checkpoint, *FEW, "--retrieve", drawn, "--out", out) == status
    assert f"{out} holds a result with pictures of neighbors" in capsys.readouterr().err


def test_other_rates_of_the_probe_stand_beside_the_first(checkpoint: Path) -> None:
    few = [str(checkpoint), "--limit", "60", "--limit-val", "20", "-j", "0", "--epochs", "1"]
    for rates in (["0.1", "1"], ["0.1"]):
        assert linear_eval.main([*few, "--learning-rates", *rates]) == 0
    found = checkpoint.parent.glob("*.json")
    assert sorted(json.loads(p.read_text())["learning_rates"] for p in found) == [[0.1], [0.1, 1]]


def test_another_recipe_of_the_probe_stands_beside_the_first(checkpoint: Path) -> None:
    few = [str(checkpoint), "--limit", "60", "--limit-val", "20", "-j", "0"]
    for epochs in ("2", "1", "2"):
        assert linear_eval.main([*few, "--epochs", epochs]) == 0
    names = ("last.pt.linear-cached.json", "last.pt.linear-cached-2.json")
    found = {name: json.loads((checkpoint.parent / name).read_text())["epochs"] for name in names}
    assert found == {names[0]: 2, names[1]: 1}
    for name in names:
        result = json.loads((checkpoint.parent / name).read_text())
        assert result["sha256"] == sha256_of(checkpoint)


def test_out_is_written_again_for_the_same_measurement_alone(
    checkpoint: Path, folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "knn.json"
    out.touch()  # as mktemp leaves it
    for _ in range(2):
        assert knn(checkpoint, *FEW, "--out", out) == 0
    before = out.read_bytes()
    for other in (("--size", 28), ("--limit", 30), ("--knn-k", 2)):
        assert knn(checkpoint, *FEW, *other, "--out", out) == 1
        name = other[0].strip("-").replace("-", "_")
        assert f"holds a result of another measurement ({name} " in capsys.readouterr().err
    assert knn(checkpoint, folder, "--knn-k", 1, "--size", 32, "--out", out) == 1
    said = capsys.readouterr().err
    assert f"{out} holds a result of another measurement (data " in said and "with --out" in said
    assert linear_eval.main([str(checkpoint), "--limit", "40", "--out", str(out)]) == 1
    assert "another measurement (protocol" in capsys.readouterr().err
    (tmp_path / "other.pt").write_bytes(checkpoint.read_bytes())
    assert knn(tmp_path / "other.pt", *FEW, "--out", out) == 1
    assert "another measurement (checkpoint" in capsys.readouterr().err
    assert out.read_bytes() == before


def test_a_checkpoint_that_has_changed_is_measured_anew_in_the_same_file(
    checkpoint: Path, tmp_path: Path
) -> None:
    out, beside = tmp_path / "out.json", checkpoint.with_name("last.pt.knn.json")
    network = torch.load(checkpoint, weights_only=True)
    for epoch in (2, 6):
        torch.save({**network, "epoch": epoch}, checkpoint)
        assert knn(checkpoint, *FEW) == knn(checkpoint, *FEW, "--out", out) == 0
        for path in (beside, out):
            assert json.loads(path.read_text())["sha256"] == sha256_of(checkpoint)
    assert {p.name for p in checkpoint.parent.iterdir()} == {"last.pt", beside.name}


@pytest.mark.parametrize("kind", ["folder", "notes", "checkpoint", "picture", "no folder"])
def test_what_is_no_result_is_refused_before_the_work(
    checkpoint: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    out = tmp_path / "result.json"
    if kind == "folder":
        out.mkdir()
    elif kind == "notes":
        out.write_text('{"mine": 1}')
    elif kind == "picture":
        out.with_suffix(".png").write_text("mine")
    elif kind == "checkpoint":
        out = checkpoint
    else:
        (tmp_path / "file").write_text("mine")
        out = tmp_path / "file" / "result.json"
    before = listing(tmp_path)
    monkeypatch.setattr(knn_run, "knn_sweep", None)
    assert knn(checkpoint, *FEW, "--retrieve", 1, "--out", out) == 1
    said = capsys.readouterr().err
    assert "--out" in said and "Free disk space" not in said and str(out.parent) in said
    assert listing(tmp_path) == before


def test_a_checkpoint_in_a_place_that_cannot_be_written_names_out(
    checkpoint: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.with_name
    monkeypatch.setattr(
        Path,
        "with_name",
        lambda path, name: Path("/proc") / name if "knn" in name else real(path, name),
    )
    monkeypatch.setattr(knn_run, "knn_sweep", None)
    assert knn(checkpoint, *FEW) == 1
    said = capsys.readouterr().err
    assert (
        "/proc/last.pt.knn.json, which cannot be written" in said and "name one with --out" in said
    )


def test_a_layer_is_not_saved_over_a_checkpoint(
    checkpoint: Path, tmp_path: Path, capsys: Capture
) -> None:
    before = checkpoint.read_bytes()
    few = [str(checkpoint), "--limit", "40", "--limit-val", "20", "-j", "0", "--epochs", "1"]
    few += ["--protocol", "moco", "-b", "20", "--out", str(tmp_path / "out.json"), "--lr", "0.1"]
    assert linear_eval.main([*few, "--save-head", str(checkpoint)]) == 1
    assert "name another file with --save-head" in capsys.readouterr().err
    assert checkpoint.read_bytes() == before and not (tmp_path / "out.json").exists()
    for _ in range(2):
        assert linear_eval.main([*few, "--save-head", str(tmp_path / "head.pt")]) == 0
    assert set(torch.load(tmp_path / "head.pt", weights_only=True)) == {"fc"}


def test_accuracies_of_another_checkpoint_are_kept(tmp_path: Path, capsys: Capture) -> None:
    network = create_classifier(10, "resnet18", width=0.125, stem="small", stem_stride=2)
    for name in ("a.pt", "b.pt"):
        torch.save({"state_dict": network.state_dict()}, tmp_path / name)
    given = ["--evaluate", "--size", "32", "--width", "0.125", "--stem", "small"]
    given += ["--stem-stride", "2", "--out", str(tmp_path), "--student-weights"]
    assert classify.main([*given, str(tmp_path / "a.pt")]) == 0
    before = (tmp_path / "accuracy.json").read_bytes()
    assert classify.main([*given, str(tmp_path / "b.pt")]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "another measurement (checkpoint" in said and "another directory with --out" in said
    assert classify.main([*given, str(tmp_path / "a.pt")]) == 0
    assert json.loads((tmp_path / "accuracy.json").read_text()) == json.loads(before)


def test_accuracies_stand_beside_their_checkpoints_where_no_directory_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    network = create_classifier(2, "resnet18", width=0.125, stem="small")
    given = ["--evaluate", "--size", "32", "-j", "0", "--student-weights"]
    for name in ("a.pt", "b.pt"):
        torch.save({"state_dict": network.state_dict()}, tmp_path / name)
        for _ in range(2):  # the same again is written over
            assert classify.main([str(folder), *given, str(tmp_path / name)]) == 0
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert classify.main([str(copy), *given, str(tmp_path / "a.pt")]) == 0
    files = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    names = ["a.pt.accuracy-2.json", "a.pt.accuracy.json", "b.pt.accuracy.json"]
    assert sorted(files) == names and files[names[0]]["data"] == str(copy)
    assert not list((tmp_path / "work").iterdir())


def test_an_export_is_written_over_an_export_alone(checkpoint: Path, capsys: Capture) -> None:
    folder = checkpoint.parent
    argv = [str(checkpoint), "--to", "detectron2", "--out", str(folder / "config.pkl")]
    (folder / "config.yaml").write_text("mine: 1\n")
    assert export.main(argv) == 1
    assert "config.yaml holds a file that this command did not write" in capsys.readouterr().err
    assert not (folder / "config.pkl").exists()
    (folder / "config.yaml").unlink()
    assert export.main(argv) == 0 and export.main(argv) == 0
    (folder / "config.pkl").write_text("mine")
    assert export.main(argv) == 1
    assert (folder / "config.pkl").read_text() == "mine"


def test_a_page_is_not_written_over_notes(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "report.md").write_text("mine")
    assert report.main([str(tmp_path / "run"), "--out", str(tmp_path / "report.html")]) == 1
    assert "report.md holds a file that this command did not write" in capsys.readouterr().err
    assert listing(tmp_path) == {"report.md": b"mine"}


def test_a_result_differs_in_what_both_say(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert difference(path, {"protocol": "p"}) == ""
    write_json(path, {"protocol": "p", "mean": (0.5, 0.25), "old": 1})
    assert difference(path, {"protocol": "p", "mean": [0.5, 0.25], "new": 2}) == ""
    write_json(path, {"protocol": "p", "mean": (0.5, 0.25), "sha256": {"a.pt": "12"}})
    assert difference(path, {"protocol": "p", "sha256": {"a.pt": "34"}}) == ""
    assert "mean [0.5, 0.25], now [0.5, 0.5]" in difference(path, {"mean": [0.5, 0.5]})
    for content in ("[1]", "{", '{"protocol": 3}', "[" * 100000):
        path.write_text(content)
        assert difference(path, {"protocol": "p"}) == "something else than a result"
