"""Each refusal's advice is followed, word for word, and the next run succeeds."""

import re
from pathlib import Path

import pytest
import torch
from image_files import class_tree
from tiny_runs import arguments

from mgd_ssl.commands import pretrain
from mgd_ssl.models import create_backbone

pytest.importorskip("timm")
Capture = pytest.CaptureFixture[str]
RUN = ["--epochs", "1", "-b", "4", "--limit", "4", "-j", "0", "--knn-every", "0"]
RUN += ["--health-every", "0", "--size", "64", "--width", "0.125", "--stem", "imagenet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_tree(tmp_path_factory.mktemp("images") / "d", {"a": 6, "b": 6})


def write_timm(path: Path, name: str) -> Path:
    """Random weights of a timm network, under its own keys."""
    torch.manual_seed(0)
    torch.save({"arch": name, "state_dict": create_backbone(name).state_dict()}, path)
    return path


def advised(message: str) -> list[str]:
    """The options that a refusal names first, each with its values."""
    found = re.search(
        r"(--(?:ignore|method|(?:teacher-)?size|batch-size)(?: [\w-]+)+?)(?=[,;.]| or |$)", message
    )
    assert found, message
    return found[1].split()


def follow(argv: list[str], capsys: Capture, most: int) -> list[str]:
    """Run, and follow advice at most so often; the options that it took."""
    taken: list[str] = []
    for _ in range(most):
        if pretrain.main(argv + taken) == 0:
            return taken
        said = " ".join(capsys.readouterr().err.rpartition("error: ")[2].split())
        taken += advised(said)
    assert pretrain.main(argv + taken) == 0, capsys.readouterr().err
    return taken


def test_a_size_that_a_teacher_does_not_take_is_answered_with_one_that_it_does(
    tmp_path: Path, folder: Path, capsys: Capture
) -> None:
    file = write_timm(tmp_path / "t.pt", "vit_tiny_patch16_224")
    argv = [str(folder), "--teacher", str(file), "--out", str(tmp_path / "run"), *RUN]
    students = ["--size", "75", "--teacher-size", "0"]
    assert follow([*argv, *students], capsys, most=1) == ["--teacher-size", "80"]
    again = ["--out", str(tmp_path / "again"), "--size", "75"]  # 112: whole patches near 112.5
    assert pretrain.main([*argv, *again]) == 0


@pytest.mark.parametrize(
    ("method", "teacher"),
    [
        ("simreg", "vit_tiny_patch16_224"),
        ("seed", "convnext_atto"),
        ("compress", "convnext_atto"),
        ("disco", "convnext_atto"),
    ],
)
def test_methods_of_pooled_features_ask_for_no_maps(
    tmp_path: Path, folder: Path, method: str, teacher: str
) -> None:
    file = write_timm(tmp_path / "t.pt", teacher)
    more = [*RUN, "--size", "224"] if teacher.startswith("vit") else RUN
    queue = [] if method == "simreg" else ["--moco-k", "16", "--bn-splits", "1"]
    argv = [str(folder), "--teacher", str(file), "--method", method, *more, *queue]
    assert pretrain.main([*argv, "--out", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize(
    ("more", "advice"),
    [
        (["--method", "simsiam", "-b", "1", "--simsiam-dim", "16"], ["--batch-size", "2"]),
        (
            ["--method", "moco", "-b", "64", "--moco-k", "64", "--bn-splits", "1"],
            ["--batch-size", "8"],
        ),
        (  # maps of one pixel at the end
            ["--moco-k", "64", "-b", "8", "--bn-splits", "8", "--stem", "imagenet"],
            ["--batch-size", "16"],
        ),
    ],
)
def test_a_batch_that_does_not_fit_is_told_one_that_does(
    tmp_path: Path, capsys: Capture, more: list[str], advice: list[str]
) -> None:
    folder = class_tree(tmp_path / "images", {"a": 6, "b": 6, "c": 4 if advice[1] == "16" else 0})
    argv = [str(folder), "--width", "0.125", "--size", "32", "--epochs", "1", "-j", "0"]
    argv += ["--knn-every", "0", "--health-every", "0", "--out", str(tmp_path / "run"), *more]
    assert follow(argv, capsys, most=1) == advice


@pytest.mark.parametrize("what", ["constant", "infinite"])
def test_a_teacher_that_says_nothing_of_the_images_is_refused_before_the_start(
    tmp_path: Path, teacher: Path, capsys: Capture, what: str
) -> None:
    content = torch.load(teacher, weights_only=True)
    last = "module.encoder_q.layer4.1.bn2."
    content["state_dict"][f"{last}weight"].fill_(0.0 if what == "constant" else 3e38)
    for name in list(content["state_dict"]):
        if what == "constant" and ".layer4.1." in name and name.endswith("weight"):
            content["state_dict"][name].fill_(0.0)
        if what == "constant" and ".layer4.0." in name and ("bn" in name or ".1." in name):
            content["state_dict"][name].fill_(1.0 if "var" in name else 0.0)
    torch.save(content, tmp_path / "t.pt")
    assert pretrain.main(arguments(tmp_path / "run", tmp_path / "t.pt")) == 1
    said = capsys.readouterr().err
    assert ("the same features for 8 different images" in said) == (what == "constant")
    assert ("not finite for 8 of 8 training images" in said) == (what == "infinite")
    assert not (tmp_path / "run").exists()


def test_a_val_part_without_one_readable_image_is_refused_before_the_start(
    tmp_path: Path, capsys: Capture
) -> None:
    class_tree(tmp_path / "d" / "train", {"a": 18, "b": 18})
    val = class_tree(tmp_path / "d" / "val", {"a": 6, "b": 6})
    for path in val.rglob("*.png"):
        path.write_bytes(b"junk")
    argv = [str(tmp_path / "d"), *arguments(tmp_path / "run", None, "--limit", "32"), "-j", "0"]
    assert pretrain.main(argv) == 1
    said = capsys.readouterr().err
    assert "12 images for health of which none can be decoded" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "is_said"),
    [(["--lr", "0.3"], True), ([], False), (["--lr", "0.3", "--optimizer", "sgd"], False)],
)
def test_a_rate_of_sgd_with_another_optimizer_is_said(
    tmp_path: Path, folder: Path, capsys: Capture, more: list[str], is_said: bool
) -> None:
    options = ["--epochs", "1", "-b", "4", "--dry-run", *more]
    assert (
        pretrain.main([str(folder), *arguments(tmp_path / "run", None, *options), "-j", "0"]) == 0
    )
    said = capsys.readouterr().err
    assert ("lr: 0.3 is a rate of SGD, and too large for --optimizer muon" in said) == is_said
    assert ("add --optimizer sgd" in said) == is_said


def test_a_queue_larger_than_the_data_is_said(
    tmp_path: Path, folder: Path, capsys: Capture
) -> None:
    class_tree(tmp_path / "d", {"a": 16, "b": 16})
    more = ["--epochs", "1", "--limit", "64", "--moco-k", "64", "--health-every", "0"]
    argv = arguments(tmp_path / "run", None, *more)
    assert pretrain.main([str(tmp_path / "d"), *argv, "-j", "0"]) == 0
    said = capsys.readouterr().err
    assert "64 keys over 32 training images holds each image up to 2 times" in said
    assert "--moco-k 32 would not" in said
