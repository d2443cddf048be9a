"""Classes meet by name: the same names pass, another order is mapped, others not."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet18_Weights

from mgd_ssl.commands import classify
from mgd_ssl.data import ArraySource
from mgd_ssl.evaluation.accuracy import classifier_accuracy
from mgd_ssl.models import BackboneSpec, KeyReport, create_classifier, load_classifier
from mgd_ssl.runs.classify import build_student
from mgd_ssl.settings.classify import ClassifyConfig
from mgd_ssl.settings.parsing import complete
from mgd_ssl.training.class_names import count_classes, match_classes
from mgd_ssl.training.logging import logger

NET = {"width": 0.125, "stem": "small"}
STUDENT = ["--width", "0.125", "--stem", "small", "--size", "32", "-b", "8", "-j", "0"]


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, logger.name)
    return caplog


def write_folder(root: Path, classes: str, count: int = 4) -> Path:
    """A folder whose class of a name has the same images wherever the name stands."""
    for part, first in (("train", 0), ("val", 100)):
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                rng = np.random.default_rng(1000 * ord(name) + first + i)
                pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


def write_classifier(path: Path, classes: Any, count: int = 3) -> Path:
    torch.manual_seed(0)
    network = create_classifier(count, **NET)  # type: ignore[arg-type]
    content = {"state_dict": network.state_dict(), "size": 32, "classes": classes}
    torch.save({k: v for k, v in content.items() if v is not None}, path)
    return path


def test_a_label_that_numbers_no_class_is_refused() -> None:
    pixels = np.zeros((3, 8, 8), np.uint8)
    source = ArraySource(pixels, np.array([0, 1, 999_999_999]))
    with pytest.raises(ValueError, match="got the label 999999999, expected classes that are numb"):
        count_classes(source, source)
    large = ArraySource(pixels, np.array([0, 1, 21_840]))
    assert count_classes(large, large) == 21_841


def logits(path: Path, classes: list[str]) -> torch.Tensor:
    """What a classifier says of fixed images, its outputs matched with the data's classes."""
    network, report = load_classifier(path, stem="small")
    assert match_classes(network, report, len(classes), classes) is None
    with torch.no_grad():
        out: torch.Tensor = network(torch.rand(2, 3, 32, 32, generator=torch.Generator()))
    return out


def test_outputs_are_put_into_the_datas_order_by_name(tmp_path: Path, log: Any) -> None:
    path = write_classifier(tmp_path / "a.pt", ["a", "b", "c"])
    plain, mapped = logits(path, ["a", "b", "c"]), logits(path, ["c", "a", "b"])
    assert torch.equal(mapped, plain[:, [2, 0, 1]])
    assert "(a, b, c), put into the data's order (c, a, b)" in log.text


def said(argv: list[Any], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert classify.main([str(word) for word in argv]) == 1
    return " ".join(capsys.readouterr().err.split())


def test_a_classifier_of_other_classes_is_no_teacher_and_is_not_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_folder(tmp_path / "bcd", "bcd")
    path = write_classifier(tmp_path / "a.pt", ["a", "b", "c"])
    run = [data, *STUDENT, "--out", tmp_path / "run", "--teacher", path]
    measured = [data, "--evaluate", "--student-weights", path, "-j", "0"]
    for argv in ([*run, "--kd"], measured):
        message = said(argv, capsys)
        assert (
            "has the classes (a, b, c), the data (b, c, d), with (a) in the former alone" in message
        )
        assert "(d) in the latter, expected the same" in message
        assert f"--student-weights {path}" in message
    assert not (tmp_path / "run").exists()
    four = write_classifier(tmp_path / "four.pt", ["a", "b", "c", "d"], count=4)
    message = said([*measured[:3], four, "-j", "0"], capsys)
    assert "4 classes (a, b, c, d), the data 3 (b, c, d), expected the same" in message


def test_the_maps_of_a_teacher_of_other_classes_are_matched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_folder(tmp_path / "bcd", "bcd")
    path = write_classifier(tmp_path / "a.pt", ["a", "b", "c"])
    run = [data, *STUDENT, "--out", tmp_path / "run", "--teacher", path, "--epochs", "1"]
    assert classify.main([str(word) for word in run]) == 0
    said = capsys.readouterr().err
    assert "the data (b, c, d)" in said and "as the maps alone are matched" in said
    rows = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "train_loss/matching/layer4" in rows and "teacher_top1" not in rows


def test_an_evaluation_counts_by_name(tmp_path: Path) -> None:
    """The same images and weights under the same names, whose order alone differs."""
    data, rows = write_folder(tmp_path / "abc", "abc"), []
    path = write_classifier(tmp_path / "a.pt", ["a", "b", "c"])
    content = torch.load(path, weights_only=True)
    order = [2, 0, 1]
    for key in ("fc.weight", "fc.bias"):
        content["state_dict"][key] = content["state_dict"][key][order]
    torch.save(content | {"classes": ["c", "a", "b"]}, tmp_path / "other.pt")
    for weights in (path, tmp_path / "other.pt"):
        given = ["--evaluate", "--student-weights", str(weights), "-j", "0", "--stem", "small"]
        out = tmp_path / weights.stem
        assert classify.main([str(data), *given, "--out", str(out)]) == 0
        rows.append(json.loads((out / "accuracy.json").read_text())["rows"][0]["top1"])
    assert rows[0] == rows[1]


def test_a_start_of_other_classes_gets_a_new_classifier_and_says_why(
    tmp_path: Path, log: Any
) -> None:
    path = write_classifier(tmp_path / "a.pt", ["a", "b", "c"])
    old = load_classifier(path)[0].state_dict()
    config = complete(ClassifyConfig, student_weights=path)
    kept = build_student(config, 3, ["a", "b", "c"])[0].state_dict()
    new = build_student(config, 3, ["b", "c", "d"])[0].state_dict()
    turned = build_student(config, 3, ["b", "c", "a"])[0].state_dict()
    assert torch.equal(kept["fc.weight"], old["fc.weight"])
    assert torch.equal(turned["fc.bias"], old["fc.bias"][[1, 2, 0]])
    assert not torch.equal(new["fc.weight"], old["fc.weight"])
    assert torch.equal(new["conv1.weight"], old["conv1.weight"])
    assert "is new: of" in log.text and "(a, b, c), the data (b, c, d)" in log.text


@pytest.mark.parametrize(
    ("classes", "names", "whose"),
    [(None, ["a", "b", "c"], "the file"), (["a", "b", "c"], None, "the data")],
)
def test_names_that_are_not_known_are_not_compared_and_this_is_said(
    tmp_path: Path, log: Any, classes: Any, names: Any, whose: str
) -> None:
    network, report = load_classifier(write_classifier(tmp_path / "a.pt", classes))
    assert match_classes(network, report, 3, names) is None
    assert f"their names were not compared: {whose} has none" in log.text


def test_published_names_are_words_and_folders_of_imagenet_have_codes(log: Any) -> None:
    words = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    network = create_classifier(1000, **NET)  # type: ignore[arg-type]
    published = KeyReport(
        Path("resnet18"),
        "state_dict",
        BackboneSpec(),
        classes=1000,
        class_names=tuple(words),
        published=True,
    )
    codes = [f"n{i:08}" for i in range(1000)]
    assert match_classes(network, published, 1000, codes) is None
    assert "taken to be in the same order, as the names cannot be compared" in log.text
    assert match_classes(network, published, 1000, list(words)) in (None, "")
    others = match_classes(network, published, 1000, [f"my {i}" for i in range(1000)])
    assert others and "(tench, goldfish" in others and "(my 0, my 1" in others


def test_a_teacher_is_measured_at_the_size_at_which_it_teaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, teacher, sides = write_folder(tmp_path / "abc", "abc"), tmp_path / "a.pt", []
    write_classifier(teacher, ["a", "b", "c"])

    def measure(network: Any, images: Any, **how: Any) -> Any:
        sides.append(next(iter(images)).images.shape[-1])
        return classifier_accuracy(network, images, **how)

    monkeypatch.setattr("mgd_ssl.runs.classify.classifier_accuracy", measure)
    run = [data, *STUDENT, "--teacher", teacher, "--teacher-size", "48", "--epochs", "1"]
    assert classify.main([str(word) for word in [*run, "--out", tmp_path / "run"]]) == 0
    assert sides == [48, 32]  # the teacher before training, the student after it
