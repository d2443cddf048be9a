"""Evaluators on folders without labels, and on class folders without a val part."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mgd_ssl.commands import knn_eval, linear_eval
from mgd_ssl.data import open_source
from mgd_ssl.data.splitting import split_by_name
from mgd_ssl.data.views import to_unit
from mgd_ssl.evaluation.health import effective_rank
from mgd_ssl.files import WriteError
from mgd_ssl.models import load_backbone
from mgd_ssl.runs import knn
from mgd_ssl.runs.unlabeled import recorded_agreement

AGREEMENT = "health/neighbor_overlap"


def write_images(folder: Path, counts: dict[str, int]) -> Path:
    draw = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = draw.integers(0, 255, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02}.png")
    return folder


@pytest.fixture
def checkpoint(teacher: Path, tmp_path: Path) -> Path:
    """A checkpoint in the directory of a run that measured agreement twice, and was killed."""
    path = tmp_path / "run" / "checkpoints" / "last.pt"
    path.parent.mkdir(parents=True)
    torch.save(torch.load(teacher, weights_only=True) | {"epoch": 2}, path)
    measured = {AGREEMENT: 0.25, "health_neighbors": 5.0, "health_images": 15.0}
    rows = [{"epoch": 1.0, AGREEMENT: 0.5}, {"epoch": 2.0, **measured}, {"epoch": 2.5}]
    rows.append({"epoch": 3.0, AGREEMENT: 0.75})
    text = "".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "hea'
    path.parent.with_name("metrics.jsonl").write_text(text)
    return path


def result(checkpoint: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(f"{checkpoint}.{name}.json").read_text())
    return content


def test_a_plain_folder_is_looked_at_without_labels(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_images(tmp_path / "photos", {"": 20})
    for copy in "abcdefgh":  # in the other part
        (data / f"{copy}.png").write_bytes((data / "03.png").read_bytes())
    train, val = split_by_name(open_source(data, "train"))
    copies = [Path(val.describe(i)).read_bytes() for i in range(len(val))]
    own = copies.count((data / "03.png").read_bytes())
    words = [str(checkpoint), str(data), "--size", "32", "-j", "0"]
    assert knn_eval.main([*words, "--retrieve", "2", "--neighbors", "3"]) == 0
    figures = result(checkpoint, "knn")["unlabeled"]
    network, report = load_backbone(checkpoint)
    pixels = torch.stack(
        [torch.from_numpy(np.array(train.read(i))).permute(2, 0, 1) for i in range(len(train))]
    )
    mean, std = (torch.tensor(x)[:, None, None] for x in (report.mean, report.std))
    with torch.no_grad():
        features = network((to_unit(pixels) - mean) / std)
    assert figures["effective_rank"] == pytest.approx(effective_rank(features), rel=1e-4)
    agreement = {name: figures[f"agreement_{name}"] for name in ("neighbors", "images")}
    assert figures["agreement_with_teacher"] == 25
    assert agreement == {"neighbors": 5, "images": 15}
    assert own > 0 and figures["same_as_train"] == own and figures["like_train"] == 0
    assert Path(f"{checkpoint}.knn.png").stat().st_size > 0
    said = capsys.readouterr()
    assert "no labels" in said.err
    flat = " ".join(said.out.split())
    assert "shared with the teacher, in training: 5 among 15 images, 35.7 by chance" in flat
    assert linear_eval.main(words) == 1
    assert "knn_eval.py CHECKPOINT DATA --retrieve 10" in capsys.readouterr().err


def test_the_agreement_is_that_of_the_checkpoints_epoch(checkpoint: Path) -> None:
    best, student = checkpoint.with_name("best.pt"), checkpoint.parents[1] / "student.safetensors"
    found = {}
    for epoch in (1, 2, 4):
        torch.save(torch.load(checkpoint, weights_only=True) | {"epoch": epoch}, best)
        found[epoch] = recorded_agreement(best).get("agreement_with_teacher")
    assert found == {1: 50, 2: 25, 4: None}
    assert recorded_agreement(student) == {"agreement_with_teacher": 75}  # of the last epoch
    assert recorded_agreement(checkpoint.parents[2] / "student.safetensors") == {}


def test_no_more_neighbors_are_drawn_than_the_bank_holds(checkpoint: Path, tmp_path: Path) -> None:
    data = write_images(tmp_path / "photos", {"": 9})
    words = [str(checkpoint), str(data), "--size", "32", "-j", "0", "--retrieve", "2"]
    assert knn_eval.main([*words, "--neighbors", "9"]) == 1
    assert knn_eval.main(words) == 0
    assert result(checkpoint, "knn")["unlabeled"]["agreement_with_teacher"] == 25


def test_figures_are_kept_where_their_picture_cannot_be_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise WriteError("the disk is full")

    monkeypatch.setattr(knn, "draw", full)
    for counts, figures in (({"": 9}, "unlabeled"), ({"a": 9, "b": 9}, "retrieval")):
        data = write_images(tmp_path / figures, counts)
        words = [str(checkpoint), str(data), "--size", "32", "-j", "0", "--retrieve", "2"]
        assert knn_eval.main([*words, "--out", str(tmp_path / f"{figures}.json")]) == 1
        assert json.loads((tmp_path / f"{figures}.json").read_text())[figures]


def test_class_folders_without_val_get_one_by_name_and_seed(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_images(tmp_path / "classes", {"a": 10, "b": 7, "c": 1})
    words = [str(checkpoint), str(data), "--size", "32", "-j", "0"]
    assert knn_eval.main([*words, "--knn-k", "1"]) == 0
    assert linear_eval.main([*words, "--epochs", "2"]) == 0
    for name in ("knn", "linear-cached"):
        found = result(checkpoint, name)
        assert (found["train_images"], found["val_images"]) == (15, 3)
        assert found["split"] == "20% of each class, by file name and seed 0"
    assert "3 of 18 images serve as val" in capsys.readouterr().err


def test_the_split_goes_by_names_and_seed_alone(tmp_path: Path) -> None:
    def held(folder: Path, seed: int = 0) -> list[str]:
        train, val = split_by_name(open_source(folder, "train"), seed)
        assert len(train) + len(val) == len(open_source(folder, "train"))
        return [str(Path(val.describe(i)).relative_to(folder)) for i in range(len(val))]

    here, there = (write_images(tmp_path / p, {"a": 10, "b": 7, "c": 1}) for p in ("x", "y"))
    assert held(here) == held(there) and len(held(here)) == 3
    assert held(here, 1) != held(here) and sum(n.startswith("a") for n in held(here, 1)) == 2
    with pytest.raises(ValueError, match="too few to keep some out"):
        split_by_name(open_source(write_images(tmp_path / "z", {"a": 1, "b": 1}), "train"))
