"""Classification end to end: base training, distillation, fine-tuning, evaluation."""

import json
import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from forked import killed_in_step, run_on_two
from image_files import class_tree, photo, save
from safetensors.torch import load_file
from test_resume import differences
from tiny_runs import STUDENT, measure_few, read_last, read_rows

from mgd_ssl.commands import classify, export, knn_eval, pretrain
from mgd_ssl.data import ArraySource
from mgd_ssl.models import create_classifier, load_classifier
from mgd_ssl.models.provenance import sha256_of
from mgd_ssl.runs.classify import build_student
from mgd_ssl.settings.classify import ClassifyConfig
from mgd_ssl.settings.parsing import complete
from mgd_ssl.settings.views import preset
from mgd_ssl.training.class_names import count_classes
from mgd_ssl.training.logging import logger
from mgd_ssl.training.run_files import foreign_entries

SMALL = ["--size", "32", "--limit", "96", "-b", "16", "--lr", "0.02"]


def options(out: Path, *more: str) -> list[str]:
    """A run of two epochs of six steps."""
    epochs = [] if "--epochs" in more else ["--epochs", "2"]
    network = [] if "--student-weights" in more or "--width" in more else STUDENT
    return ["--out", str(out), *network, *SMALL, *epochs, *more]


@pytest.fixture
def few_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_few(monkeypatch)


@pytest.fixture(scope="module")
def supervised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that was trained by the command itself."""
    out = tmp_path_factory.mktemp("supervised") / "teacher"
    wide = ["-a", "resnet18", "--width", "0.25", "--stem", "small", "--stem-stride", "2"]
    assert classify.main(options(out, *wide, "--warmup-epochs", "1")) == 0
    return out / "checkpoints" / "last.pt"


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory, supervised: Path) -> Path:
    out = tmp_path_factory.mktemp("distilled") / "run"
    assert classify.main(options(out, "--teacher", str(supervised), "--kd", "-p", "1")) == 0
    return out


def test_the_warm_up_comes_before_the_schedule(supervised: Path) -> None:
    rows = [r for r in read_rows(supervised.parents[1]) if "train_loss" in r]
    assert [row["epoch"] for row in rows] == [1, 2, 3]  # 2 epochs and 1 of warm-up
    # six steps an epoch: the last of the warm-up, then steps 5 and 11 of a cosine over twelve
    cosine = [0.01 * (1 + math.cos(math.pi * step / 12)) for step in (5, 11)]
    assert [row["lr"] for row in rows] == pytest.approx([0.02, *cosine])


def test_metrics_hold_each_loss_and_the_accuracies(distilled: Path) -> None:
    rows = [row for row in read_rows(distilled) if "train_loss" in row]
    parts = {k for k in rows[0] if k.startswith("train_loss/")}
    stages = {f"train_loss/matching/layer{i}" for i in range(1, 5)}
    assert parts == {"train_loss/classification", "train_loss/kd"} | stages
    assert all(0 <= row["val_top1"] <= row["val_top5"] <= 100 for row in rows)
    assert (distilled / "matching" / "epoch_0001.npz").exists()
    assert not (distilled / "matching" / "epoch_0002.npz").exists()  # every 2 epochs
    assert foreign_entries(distilled) == []  # --overwrite knows every file


def test_the_checkpoint_is_torchvisions_network_with_its_classifier(distilled: Path) -> None:
    network, report = load_classifier(distilled / "checkpoints" / "last.pt")
    assert (report.classes, report.missing, report.unexpected) == (10, [], [])
    keys = set(torchvision.models.resnet18(weights=None).state_dict())
    assert set(network.state_dict()) == keys
    assert set(load_file(distilled / "student.safetensors")) == {
        k for k in keys if not k.startswith("fc.")
    }


def test_evaluate_reports_student_and_teacher_as_training_did(
    distilled: Path, supervised: Path, tmp_path: Path
) -> None:
    student = distilled / "checkpoints" / "last.pt"
    sources = ["--student-weights", str(student), "--teacher", str(supervised)]
    assert classify.main(["--evaluate", *sources, "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "accuracy.json").read_text())["rows"]
    for row, run in zip(rows, (distilled, supervised.parents[1]), strict=True):
        last = read_rows(run)[-1]
        assert (row["top1"], row["top5"]) == (last["val_top1"], last["val_top5"])
        assert row["images"] == 1000
        assert row["sha256"] == sha256_of(run / "checkpoints" / "last.pt")


def test_a_run_ends_with_commands_that_measure_and_export_its_classifier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, commands = tmp_path / "a run", {"classify": classify.main, "export": export.main}
    assert classify.main(options(run, "--epochs", "1", "--limit", "32")) == 0
    shown, best = capsys.readouterr(), run / "checkpoints" / "best.pt"
    assert f"the classifier is {best}; its backbone alone is {run / 'student.safetensors'}" in (
        shown.out + shown.err
    )
    lines = [shlex.split(line) for line in shown.out.splitlines() if "mgd-ssl " in line]
    assert [(line[:2], str(best) in line) for line in lines] == [
        (["mgd-ssl", "classify"], True),
        (["mgd-ssl", "export"], True),
    ]
    assert [commands[name](words) for _, name, *words in lines] == [0, 0]


def test_the_backbone_alone_is_refused_with_the_runs_classifier(
    distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone, best = str(distilled / "student.safetensors"), distilled / "checkpoints" / "best.pt"
    assert classify.main(["--evaluate", "--student-weights", backbone]) == 1
    assert f"expected it with its classifier, which is in {best}" in capsys.readouterr().err
    assert export.main([backbone, "--out", str(tmp_path / "a.safetensors")]) == 0
    assert f"its classifier is exported by: mgd-ssl export {best}" in "".join(capsys.readouterr())


@pytest.mark.parametrize("step", [6, 10])  # of an epoch's six: one step is lost
def test_a_killed_run_resumes_to_the_same_bits(
    tmp_path: Path, supervised: Path, distilled: Path, step: int
) -> None:
    run = tmp_path / "run"
    given = options(run, "--teacher", str(supervised), "--kd", "-p", "1")
    killed_in_step(step, "classify", [*given, "--save-every", "2"])
    assert classify.main([*given, "--save-every", "2", "--resume"]) == 0
    left, right = read_last(run), read_last(distilled)
    for content in (left, right):
        content.pop("config")
    assert len(right["state_dict"]) == 122 and right["distiller"]
    assert differences(left, right) == []


@pytest.mark.usefixtures("few_to_measure")
@pytest.mark.parametrize("reducer", ["sp", "sp_avg", "rd", "sm"])
def test_every_reducer_trains(tmp_path: Path, supervised: Path, reducer: str) -> None:
    given = options(tmp_path / "run", "--teacher", str(supervised), "--epochs", "1")
    assert classify.main([*given, "--mgd-reducer", reducer, "--val-every", "2"]) == 0
    assert read_rows(tmp_path / "run")[-1]["train_loss/matching/layer4"] > 0


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("resnet50") / "r50.pth"
    torch.save(create_classifier(2, "resnet50").state_dict(), path)
    return path


@pytest.mark.parametrize("arch", ["mobilenet_v1", "mobilenet_v2", "shufflenet_v2_x1_0"])
def test_the_published_students_learn_from_a_resnet_50(
    tmp_path: Path, resnet50: Path, arch: str
) -> None:
    for split, images in {"train": 4, "val": 1}.items():
        class_tree(tmp_path / "data" / split, {"cat": images, "dog": images})
    given = [str(tmp_path / "data"), "-j", "0", "-a", arch, "--size", "32", "-b", "8"]
    given += ["--epochs", "1"]
    if arch == "mobilenet_v2":  # its expanded maps have other sides than a ResNet's
        given += ["--ignore", "0"]
    given += ["--teacher", str(resnet50), "--out", str(tmp_path / "run")]
    assert classify.main(given) == 0
    stages = [k for k in read_rows(tmp_path / "run")[-1] if k.startswith("train_loss/matching")]
    assert len(stages) == (4 if arch == "mobilenet_v1" else 3)


@pytest.mark.usefixtures("few_to_measure")
def test_a_pretrained_student_is_fine_tuned_on_a_share_of_the_labels(
    tmp_path: Path, teacher: Path
) -> None:
    pretrained = tmp_path / "pretrained"
    given = ["--teacher", str(teacher), *STUDENT, "--size", "32", "--limit", "64", "-b", "16"]
    given += ["--bn-splits", "2", "--epochs", "1", "--knn-every", "0"]
    assert pretrain.main([*given, "--out", str(pretrained)]) == 0
    out, weights = tmp_path / "tuned", pretrained / "student.safetensors"
    share = ["--label-fraction", "0.5", "--student-weights", str(weights), "--lr", "1e-9"]
    assert classify.main(options(out, *share, "--epochs", "1")) == 0
    assert read_rows(out)[-1]["step"] == 3  # 48 of 96 images in batches of 16
    before, after = load_file(weights), read_last(out)["state_dict"]
    moved = [k for k, v in before.items() if k.endswith("conv1.weight")]
    assert all(torch.allclose(before[k], after[k], atol=1e-6) for k in moved)
    assert after["fc.weight"].shape == (10, 64)


@pytest.mark.usefixtures("few_to_measure")
def test_a_classifier_of_the_same_classes_is_trained_on_with_its_norms_awake(
    tmp_path: Path, supervised: Path
) -> None:
    given = ["--student-weights", str(supervised), "--epochs", "1", "--val-every", "9"]
    assert classify.main(options(tmp_path / "run", *given)) == 0
    before, after = (
        torch.load(path, weights_only=True)["state_dict"]
        for path in (supervised, tmp_path / "run" / "checkpoints" / "last.pt")
    )
    counted = [k for k in before if k.endswith("num_batches_tracked")]
    assert counted and all(after[k] == before[k] + 6 for k in counted)  # 96 images, 16 a step


def test_a_classifiers_run_is_evaluated_by_its_neighbors_too(
    distilled: Path, tmp_path: Path
) -> None:
    out = tmp_path / "knn.json"
    given = ["--limit", "60", "--limit-val", "30", "-b", "30", "--knn-k", "5", "--out", str(out)]
    assert knn_eval.main([str(distilled / "checkpoints" / "best.pt"), *given]) == 0
    assert json.loads(out.read_text())["val_images"] == 30


def said(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert classify.main(argv) == 1
    return " ".join(capsys.readouterr().err.split())


def save_state(network: Any, path: Path) -> str:
    torch.save(network.state_dict(), path)
    return str(path)


def test_a_teacher_of_another_class_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stem = {"width": 0.25, "stem": "small", "stem_stride": 2}
    path = save_state(create_classifier(7, "resnet18", **stem), tmp_path / "seven.pth")  # type: ignore[arg-type]
    message = said(options(tmp_path / "run", "--teacher", path, "--kd"), capsys)
    assert "its classifier has 7 classes, the data 10 (T-shirt/top, Trouser" in message
    assert f"--student-weights {path}" in message and not (tmp_path / "run").exists()


@pytest.mark.usefixtures("few_to_measure")
def test_a_teacher_without_classifier_gives_maps_but_no_logits(
    tmp_path: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = options(tmp_path / "run", "--teacher", str(teacher), "--epochs", "1")
    message = said([*argv, "--kd"], capsys)
    assert "it has no classifier, expected one of 10 classes for --kd" in message
    stride = ["--teacher-stem-stride", "2"]
    assert classify.main([*argv, *stride]) == 0
    assert "train_loss/matching/layer1" in read_rows(tmp_path / "run")[-1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--kd"], "got --kd without a teacher, expected --teacher PATH or NAME"),
        (["--teacher", "resnet50", "--no-matching"], "got --mgd-weighing none without --kd"),
        (["--optimizer", "sgd", "--momentum", "0"], "nesterov: got momentum 0, expected above 0"),
        (
            ["--evaluate"],
            "got --evaluate without --student-weights, expected --student-weights CHECKPOINT",
        ),
        (["--label-fraction", "0.05"], "0.05 of 96 images is fewer than the 10 classes"),
        (["--label-fraction", "0"], "label fraction: got 0.0, expected above 0, at most 1"),
        (["--sync-bn", "--accelerator", "cpu"], "sync_bn: got the device cpu, expected cuda"),
        (["--teacher", "resnet51"], "got resnet51, which is no file"),
        (["--teacher", "resnet50:V9"], "got 'V9' of resnet50, expected one of IMAGENET1K_V1"),
    ],
)
def test_bad_settings_are_refused_before_the_directory_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert message in said(options(tmp_path / "run", *more), capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("few_to_measure")
def test_stage_weights_weigh_the_stages_and_must_fit_them(
    tmp_path: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--teacher", str(teacher), "--epochs", "1", "--mgd-stage-weights"]
    argv = options(tmp_path / "run", *given, "1", "1", "-1", "1")
    assert "got 1, 1, -1, 1 for 4 stages, expected one weight of 0 or more" in said(argv, capsys)
    assert "for 4 stages" in said(options(tmp_path / "run", *given, "1", "1"), capsys)
    assert classify.main(options(tmp_path / "run", *given, "0", "1", "0.5", "0")) == 0
    row = read_rows(tmp_path / "run")[-1]
    weighed = [row[f"train_loss/matching/layer{i}"] for i in range(1, 5)]
    assert weighed[0] == weighed[3] == 0 and min(weighed[1:3]) > 0


def test_networks_are_evaluated_at_the_size_of_their_training(tmp_path: Path) -> None:
    content = {"state_dict": create_classifier(10, width=0.125).state_dict(), "size": 40}
    torch.save(content, tmp_path / "network.pth")
    given = ["--evaluate", "--student-weights", str(tmp_path / "network.pth"), "--out"]
    for size, more in ((40, []), (48, ["--size", "48"])):
        out = tmp_path / str(size)
        assert classify.main([*given, str(out), *more]) == 0
        result = json.loads((out / "accuracy.json").read_text())
        assert result["size"] == result["rows"][0]["size"] == size


def test_accuracies_at_another_size_or_precision_stand_beside_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "network.pth"
    torch.save({"state_dict": create_classifier(10, width=0.125).state_dict()}, weights)
    given = ["--evaluate", "--student-weights", str(weights), "--precision", "32"]
    others = (["--size", "40"], ["--precision", "bf16"], ["--teacher", str(weights)], [])
    for more in ([], *others):
        assert classify.main([*given, *more]) == 0
    names = [f"network.pth.accuracy{n}.json" for n in ("", "-2", "-3", "-4")]
    assert {path.name for path in tmp_path.glob("*.json")} == {*names}
    first, second, third, fourth = (json.loads((tmp_path / n).read_text()) for n in names)
    assert (first["size"], first["precision"], first["teacher"]) == (32, "32", None)
    assert (second["size"], third["precision"]) == (40, "bf16")
    assert (fourth["teacher"], fourth["teacher_size"]) == (str(weights), 32)
    assert first["max_pixels"] > 0 and first["exif"] and first["network"]["width"] == 0.125
    out = ["--out", str(tmp_path / "out")]
    assert classify.main([*given, *out]) == 0
    message = said([*given, *out, "--size", "40"], capsys)
    assert "holds a result of another measurement (size 32, now 40)" in message


def test_a_student_of_another_normalisation_is_told_how_to_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger, "propagate", True)
    path = tmp_path / "network.pth"
    normalization = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    state = create_classifier(10, width=0.125).state_dict()
    torch.save({"state_dict": state, "normalisation": normalization}, path)
    build_student(complete(ClassifyConfig, student_weights=path), 10)
    assert "--mean 0.5 0.5 0.5 --std 0.25 0.25 0.25" in caplog.text
    caplog.clear()
    heeded = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    build_student(complete(ClassifyConfig, student_weights=path, **heeded), 10)
    assert "--mean" not in caplog.text


def test_one_parameter_of_the_views_leaves_the_others() -> None:
    config = complete(ClassifyConfig, crop_min=0.3, size=128)
    assert config.views == preset("linear", crop_min=0.3)
    assert complete(ClassifyConfig, preset="moco_v2").views == preset("moco_v2")


def test_classes_without_names_are_counted_in_both_parts() -> None:
    def source(*labels: int) -> ArraySource:
        images = np.zeros((len(labels), 8, 8), np.uint8)
        return ArraySource(images, np.array(labels, np.int64), name="some")

    assert count_classes(source(0, 3, 1), source(4, 0)) == 5  # as where --limit left 4 out
    assert count_classes(source(0, 6), source(0, 1)) == 7


@pytest.mark.parametrize("val", ["its own", "split off"])
def test_a_run_is_evaluated_where_val_lacks_the_last_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], val: str
) -> None:
    def listed(name: str, labels: list[int]) -> Path:
        files = [save(tmp_path / f"{name}{i}.png", photo(i)) for i in range(len(labels))]
        lines = [f"{file.name},{label}\n" for file, label in zip(files, labels, strict=True)]
        (tmp_path / f"{name}.csv").write_text("".join(lines))
        return tmp_path / f"{name}.csv"

    data = listed("train" if val == "its own" else "images", [0, 1, 0, 1, 0, 1, 0, 1, 2])
    if val == "its own":
        listed("val", [0, 1])
    assert classify.main([str(data), *options(tmp_path / "run", "-b", "4", "--epochs", "1")]) == 0
    given = [str(data), "--evaluate", "--size", "32", "-j", "0", "--student-weights"]
    assert classify.main([*given, str(tmp_path / "run")]) == 0
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    (row,) = json.loads(last.with_name("last.pt.accuracy.json").read_text())["rows"]
    assert row["images"] == 2 and row["top1"] == read_rows(tmp_path / "run")[-1]["val_top1"]
    other = save_state(create_classifier(4, width=0.125), tmp_path / "other.pth")
    assert "its classifier has 4 classes, the data 3" in said([*given, other], capsys)


@pytest.mark.usefixtures("few_to_measure")
def test_the_matching_begins_where_it_is_told(tmp_path: Path, teacher: Path) -> None:
    matching = ["--mgd-weighing", "start", "--mgd-strength", "0.5"]
    given = ["--teacher", str(teacher), *matching, "-p", "1"]
    assert classify.main(options(tmp_path / "run", *given, "--epochs", "1")) == 0
    log = (tmp_path / "run" / "train.log").read_text().splitlines()
    first = next(line for line in log if "epoch 1/1 step 1/6" in line).split()
    begun = [float(first[first.index(f"loss/matching/layer{i}") + 1]) for i in range(1, 5)]
    assert all(0.3 < loss < 0.8 for loss in begun)


@pytest.mark.usefixtures("few_to_measure")
def test_logits_alone_need_no_taps(tmp_path: Path, supervised: Path) -> None:
    given = ["--teacher", str(supervised), "--kd", "--no-matching", "--epochs", "1"]
    assert classify.main(options(tmp_path / "run", *given)) == 0
    row = read_rows(tmp_path / "run")[-1]
    losses = {k for k in row if k.startswith("train_loss/")}
    assert losses == {"train_loss/classification", "train_loss/kd"}


def test_two_processes_train_one_classifier(tmp_path: Path, supervised: Path) -> None:
    argv = options(tmp_path / "run", "--teacher", str(supervised), "--kd", "--epochs", "1")
    run_on_two("classify", [*argv, "--accelerator", "cpu"])
    rows = [row for row in read_rows(tmp_path / "run") if "train_loss" in row]
    assert [row["step"] for row in rows] == [6]
    last = str(tmp_path / "run" / "checkpoints" / "last.pt")
    given = ["--evaluate", "--student-weights", last, "--out", str(tmp_path), "--size", "32"]
    assert classify.main(given) == 0  # on one process: both shares of the images were counted
    (alone,) = json.loads((tmp_path / "accuracy.json").read_text())["rows"]
    assert alone["images"] == 1000 and alone["top1"] == pytest.approx(rows[0]["val_top1"])


def test_every_process_ends_where_the_directory_is_refused(distilled: Path) -> None:
    said = run_on_two("classify", [*options(distilled), "--accelerator", "cpu"], status=1)
    assert "is not empty, expected a new directory" in said and "Traceback" not in said


def test_class_folders_without_val_are_split_as_the_evaluators_split_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    for name in (f"{c}/{i}" for c in ("cat", "dog") for i in range(10)):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "data" / f"{name}.png")
    data, run = str(tmp_path / "data"), tmp_path / "run"
    assert classify.main([data, *options(run, "--epochs", "1", "--seed", "3")]) == 0
    split = "4 of 20 images serve as val (20% of each class, by file name and seed 0)"
    assert split in capsys.readouterr().err
    assert [row["val_images"] for row in read_rows(run) if "val_images" in row] == [4]
    weights = run / "checkpoints" / "last.pt"
    given = ["--evaluate", "--student-weights", str(weights), "--out", str(run), "--size", "32"]
    assert classify.main([data, *given, "-j", "0"]) == 0
    assert knn_eval.main([str(weights), data, "--knn-k", "1", "--size", "32", "-j", "0"]) == 0
    assert capsys.readouterr().err.count(split) == 2
    (row,) = json.loads((run / "accuracy.json").read_text())["rows"]
    assert row["images"] == 4


def test_class_folders_that_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    for name in ("train/cat", "train/dog", "val/cat", "val/cow"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / name / "0.png")
    message = said([str(tmp_path), *options(tmp_path / "run")], capsys)
    assert "classes that" in message and "cow" in message and "expected the same" in message
