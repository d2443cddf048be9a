"""A classifier learns from stored answers what it learns from the teacher itself."""

from pathlib import Path
from typing import Any

import pytest
import torch
from image_files import class_tree
from test_resume import differences
from tiny_runs import STUDENT, asked, read_last, read_rows, stop_at

from mgd_ssl.commands import cache, classify
from mgd_ssl.data import Batch
from mgd_ssl.models import create_classifier
from mgd_ssl.runs import cache as runs
from mgd_ssl.runs.classify_teacher import check_head
from mgd_ssl.settings.classify import ClassifyConfig
from mgd_ssl.settings.parsing import complete
from mgd_ssl.tasks.classification import Classification
from mgd_ssl.tasks.task import Teacher
from mgd_ssl.training.cached_data import CachedImageData

Capture = pytest.CaptureFixture[str]
CLASSES = {"cat": 20, "dog": 20}
SMALL = ["--size", "32", "-b", "8", "--lr", "0.01", "-j", "0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    class_tree(root / "train", CLASSES)
    class_tree(root / "val", {"cat": 4, "dog": 4})
    return root


@pytest.fixture(scope="module")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "run"
    wide = ["-a", "resnet18", "--width", "0.25", "--stem", "small", "--stem-stride", "2"]
    assert classify.main([str(data), "--out", str(out), *SMALL, *wide, "--epochs", "1"]) == 0
    return out


@pytest.fixture(scope="module")
def cached(data: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cached") / "cache"
    words = ["--teacher", str(teacher), "--out", str(out), "--views", "2", "-j", "0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "PART_IMAGES", 16)
        assert cache.main([str(data), *words, "--crop-min", "0.5"]) == 0
    return out


def train(data: Path, teacher: Path, out: Path, *more: str) -> int:
    words = ["--teacher", str(teacher), "--out", str(out), *STUDENT, *SMALL, "--epochs", "2"]
    return classify.main([str(data), *words, *more])


def test_the_losses_are_those_with_the_teacher_itself(
    tmp_path: Path, data: Path, teacher: Path, cached: Path
) -> None:
    logits = ["--kd", "--mgd-weighing", "none"]
    assert train(data, teacher, tmp_path / "live", *logits) == 0
    assert train(data, teacher, tmp_path / "run", *logits, "--teacher-cache", str(cached)) == 0
    live, stored = (read_rows(tmp_path / name)[1:] for name in ("live", "run"))
    assert len(live) == 2  # epochs, whose crops are the views of the cache
    for row, other in zip(live, stored, strict=True):
        for name in ("train_loss/classification", "train_loss/kd"):
            assert other[name] == pytest.approx(row[name], rel=0.02), name


def test_each_step_sees_what_the_teacher_says_of_its_own_crops(
    tmp_path: Path, data: Path, teacher: Path, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    inputs, forward = CachedImageData.task_inputs, Classification.forward

    def note(self: CachedImageData, batch: Batch) -> object:
        view, labels = inputs(self, batch)
        assert torch.equal(labels, batch.labels)
        return view, labels

    def compare(self: Classification, view: object, labels: torch.Tensor) -> object:
        assert isinstance(self.teacher, Teacher)
        taught = self.taught(view)
        maps, logits = self.teacher(taught.images)
        torch.testing.assert_close(self._teacher_logits(taught), logits, atol=2e-3, rtol=2e-3)
        for stored, x in zip(taught.maps, maps, strict=True):
            live = torch.nn.functional.adaptive_avg_pool2d(x, stored.shape[-1])
            assert (stored - live).norm() < 0.05 * live.norm()
        compared.append(len(labels))
        return forward(self, view, labels)

    monkeypatch.setattr(CachedImageData, "task_inputs", note)
    monkeypatch.setattr(Classification, "forward", compare)
    assert train(data, teacher, tmp_path / "run", "--kd", "--teacher-cache", str(cached)) == 0
    assert compared == [8] * 10


def test_the_teacher_is_not_run_in_a_step(
    tmp_path: Path, data: Path, teacher: Path, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = asked(monkeypatch)
    assert train(data, teacher, tmp_path / "run", "--kd", "--teacher-cache", str(cached)) == 0
    assert sum(calls) <= 8 + 16  # the look at its features, and the comparison with the cache


@pytest.mark.parametrize(
    ("words", "place"), [([], "meta"), (["--kd"], "cpu")], ids=["maps alone", "logits too"]
)
def test_a_teacher_that_is_not_asked_again_takes_no_memory(
    tmp_path: Path,
    data: Path,
    teacher: Path,
    cached: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    place: str,
) -> None:
    places: set[str] = set()
    forward = Classification.forward

    def note(self: Classification, *inputs: Any) -> dict[str, torch.Tensor]:
        assert self.teacher
        places.update(x.device.type for x in self.teacher.network.state_dict().values())
        return forward(self, *inputs)

    monkeypatch.setattr(Classification, "forward", note)
    stored = ("--teacher-cache", str(cached))
    assert train(data, teacher, tmp_path / "run", *words, *stored) == 0
    assert places == {place}


def test_a_stopped_run_resumes_to_the_same_bits_on_a_share_of_the_labels(
    tmp_path: Path, data: Path, teacher: Path, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--teacher-cache", str(cached), "--label-fraction", "0.8", "--save-every", "1"]
    assert train(data, teacher, tmp_path / "whole", *words) == 0
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        assert train(data, teacher, tmp_path / "run", *words) == 143
    assert train(data, teacher, tmp_path / "run", *words, "--resume") == 0
    ends = [read_last(tmp_path / name) for name in ("run", "whole")]
    for content in ends:
        content.pop("config")
    assert differences(*ends) == []


def test_the_cache_sets_size_crops_and_grid(cached: Path, teacher: Path, tmp_path: Path) -> None:
    words = {"data": tmp_path, "teacher": teacher, "teacher_cache": cached}
    config = complete(ClassifyConfig, **words)
    assert (config.loader.size, config.mgd.mgd_grid) == (32, 4)
    assert (config.views.crop_min, config.views.flip_p) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--crop-min", "0.2"], "--crop-min: 0.5 in the cache, 0.2 here"),
        (["--evaluate", "--student-weights", "resnet18"], "teacher_cache: got --teacher-cache"),
    ],
)
def test_what_does_not_go_with_the_cache_is_refused(
    tmp_path: Path, data: Path, teacher: Path, cached: Path, capsys: Capture, words, said
) -> None:
    given = [str(data), "--teacher", str(teacher), "--teacher-cache", str(cached)]
    assert classify.main([*given, "--out", str(tmp_path / "run"), *words]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_cache_without_its_teacher_is_refused(
    tmp_path: Path, data: Path, cached: Path, capsys: Capture
) -> None:
    words = ["--teacher-cache", str(cached), "--out", str(tmp_path / "run")]
    assert classify.main([str(data), *words]) == 1
    assert "name the one that it was made from: --teacher" in capsys.readouterr().err


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v3_small", "vit_tiny_patch16_224"])
def test_logits_follow_from_the_pooled_features(arch: str) -> None:
    check_head(create_classifier(3, arch).eval(), 224 if arch.startswith("vit") else 32)


def test_a_classifier_that_pools_behind_its_head_is_refused() -> None:
    with pytest.raises(ValueError, match="got --kd and --teacher-cache with squeezenet1_1"):
        check_head(create_classifier(3, "squeezenet1_1").eval(), 64)
