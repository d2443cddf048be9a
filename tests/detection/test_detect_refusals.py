"""What ``mgd-ssl detect`` refuses, each before the run's directory is taken."""

import sys
from pathlib import Path

import pytest
from detect_runs import broken, options, said

from mgd_ssl.commands import classify


def test_annotations_of_missing_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = broken(tmp_path / "data", lambda c: c["images"][0].update(file_name="gone.png"))
    message = said([str(data), *options(tmp_path / "run")[1:]], capsys)
    assert "gone.png" in message and "expected" in message
    assert not (tmp_path / "run").exists()


def test_validation_images_that_cannot_be_decoded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = broken(tmp_path / "data", lambda content: None)
    for path in data.glob("val/*"):
        path.write_bytes(path.read_bytes()[:40])
    message = said([str(data), *options(tmp_path / "run")[1:]], capsys)
    assert "images for average precision of which none can be decoded" in message
    assert not (tmp_path / "run").exists()


def test_no_annotations_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = broken(tmp_path / "data", lambda c: c["annotations"].clear())
    assert "expected" in said([str(data), *options(tmp_path / "run")[1:]], capsys)


def test_categories_that_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = broken(tmp_path / "data", lambda c: c["categories"].append({"id": 99, "name": "yak"}))
    message = said([str(data), *options(tmp_path / "run")[1:]], capsys)
    assert "99 'yak'" in message and "expected the same ids and names" in message


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--unlabeled"], "--unlabeled or --teacher-boxes without a teacher, expected --teacher"),
        (["--evaluate"], "got --evaluate without --student-weights"),
        (["--teacher", "nothing.pt"], "which is no file; expected a detector's checkpoint"),
        (["--levels", "c2", "c2"], "expected one or more, each once"),
        (["--mgd-start", "0"], "mgd_start: got 0, expected a number above 0"),
        (["--backbone-weights", "none.pt"], "which is no file"),
        (["-a", "mobilenet_v2"], "expected a ResNet of torchvision"),
        (["-b", "20"], "got 20 and 14 images to train on, expected no more than there are"),
        (
            ["--size", "64"],
            "size: got --size 64, which has no effect in detect; leave it out, or give --min-size",
        ),
        (["--mean", "0", "0", "0"], "mean: got --mean 0.0 0.0 0.0, which has no effect in detect"),
        (["--taps", "c2=layer1"], "no effect in detect; leave it out, or give --levels"),
        (
            ["--warmup-epochs", "1"],
            "warmup_epochs: got --warmup-epochs 1, which has no effect in detect",
        ),
    ],
)
def test_bad_settings_are_refused_before_the_directory_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert message in said(options(tmp_path / "run", *more), capsys)
    assert not (tmp_path / "run").exists()


def test_the_librarys_absence_is_told_before_the_directory_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    message = said(options(tmp_path / "run"), capsys)
    assert "pip install faster-coco-eval" in message and not (tmp_path / "run").exists()


def test_stages_that_do_not_exist_are_not_ignored(
    tmp_path: Path, teacher: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = options(tmp_path / "run", "--teacher", teacher, "--levels", "c4", "c5", "--ignore", "3")
    assert "ignore: got stage 3, expected 0 to 1" in said(argv, capsys)


def test_stage_weights_that_do_not_fit_the_stages(
    tmp_path: Path, teacher: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = options(tmp_path / "run", "--teacher", teacher, "--mgd-loss-factor", "5e7")
    message = said([*argv, "--mgd-stage-weights", "1", "2"], capsys)
    assert "mgd_stage_weights: got 1, 2 for 4 stages, expected one weight of 0 or more" in message
    both = options(tmp_path / "run", "--teacher", teacher, "--mgd-stage-weights", "1")
    assert "got --mgd-weighing start and --mgd-stage-weights" in said(both, capsys)


def test_a_classifier_is_no_detector(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "classifier"
    small = ["--limit", "32", "-b", "16", "--epochs", "1", "--val-every", "9", "--out", str(out)]
    assert classify.main(small) == 0
    given = ["--teacher", str(out / "checkpoints" / "last.pt")]
    assert "holds no RetinaNet" in said(options(tmp_path / "run", *given), capsys)
