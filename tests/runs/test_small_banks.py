"""Evaluators on a bank that holds, or of which can be decoded, few images."""

import json
from pathlib import Path

import pytest
from image_files import class_tree, photo, save

from mgd_ssl.commands import knn_eval, linear_eval

SETTINGS = ["--size", "32", "-j", "0", "--knn-t", "0.1"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for part in ("train", "val"):
        class_tree(tmp_path / "data" / part, {"cat": 4, "dog": 4})
    return tmp_path / "data"


def test_retrieval_is_measured_at_the_numbers_that_the_bank_holds(
    tmp_path: Path, data: Path, teacher: Path
) -> None:
    out = tmp_path / "knn.json"
    words = [*SETTINGS, "--knn-k", "3", "--retrieve", "1", "--neighbors", "5", "--out", str(out)]
    assert knn_eval.main([str(teacher), str(data), *words]) == 0
    precisions = {name for name in json.loads(out.read_text())["retrieval"] if "@" in name}
    assert {name.partition("@")[2] for name in precisions} == {"1", "5"}


def test_neighbors_beyond_the_images_that_can_be_decoded_are_left_out_and_that_is_said(
    tmp_path: Path, data: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = next((data / "train" / "cat").iterdir())
    broken.write_bytes(broken.read_bytes()[:40])
    out = tmp_path / "knn.json"
    words = [*SETTINGS, "--knn-k", "3", "8", "--retrieve", "1", "--neighbors", "8"]
    assert knn_eval.main([str(teacher), str(data), *words, "--out", str(out)]) == 0
    assert [row["k"] for row in json.loads(out.read_text())["knn"]] == [3, 7]
    assert "kNN at k 3, 7: of the bank 7 images were decoded" in capsys.readouterr().err


def test_no_neighbors_are_refused_before_anything_is_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert knn_eval.main(["nowhere.pt", "nowhere", "--knn-k", "5", "0"]) == 1
    assert "knn_k: got 0 neighbors, expected 1 or more" in capsys.readouterr().err


def test_images_of_one_class_are_warned_of(
    data: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (data / "val" / "dog").iterdir():
        path.unlink()
    assert knn_eval.main([str(teacher), str(data), *SETTINGS, "--knn-k", "3"]) == 0
    assert "all val images are of one class" in capsys.readouterr().err


def test_votes_are_written_where_no_query_has_its_class_in_the_bank(
    tmp_path: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part, labels in {"train": (0, 1), "val": (2, 3)}.items():
        files = [save(tmp_path / f"{part}{i}.png", photo(i)) for i in range(4)]
        lines = [f"{file.name},{labels[i % 2]}\n" for i, file in enumerate(files)]
        (tmp_path / f"{part}.csv").write_text("".join(lines))
    out = tmp_path / "knn.json"
    words = [*SETTINGS, "--knn-k", "3", "--retrieve", "2", "--neighbors", "2", "--out", str(out)]
    assert knn_eval.main([str(teacher), str(tmp_path / "train.csv"), *words]) == 0
    result = json.loads(out.read_text())
    assert [row["top1"] for row in result["knn"]] == [0]
    assert result["retrieval"] == {"precision@1": 0, "queries_without_match": 4}
    assert out.with_suffix(".png").stat().st_size
    said = " ".join(capsys.readouterr().err.split())
    assert "none of 4 queries has an image of its class in the bank; mAP is left out" in said


def test_mocos_protocol_takes_all_images_in_a_step_where_they_are_few(
    tmp_path: Path, data: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "linear.json"
    words = [str(teacher), str(data), *SETTINGS[:4], "--protocol", "moco", "--epochs", "1"]
    words += ["--schedule", "--lr", "0.1", "--out", str(out)]
    assert linear_eval.main(words) == 0
    assert json.loads(out.read_text())["batch_size"] == 8
    assert "steps of 8 images: there are no more to train on (-b)" in capsys.readouterr().err
    before = out.read_bytes()
    assert linear_eval.main([*words, "-b", "9"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "batch_size: got 9 and 8 images to train on, expected no more" in said
    assert "give -b 8 or less" in said and out.read_bytes() == before
