"""Bad input ends a command with one message that names the remedy; nothing is overwritten."""

import argparse
import errno
import fcntl
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_runs import arguments, listing, read_last, read_rows, write_teacher

from mgd_ssl.commands import knn_eval, linear_eval, main, pretrain
from mgd_ssl.training import checkpoint

Capture = pytest.CaptureFixture[str]


def refused(argv: list[str], capsys: Capture, *words: str) -> str:
    """What pretrain.py says when it refuses; every word must be in it, on one error."""
    capsys.readouterr()
    assert pretrain.main(argv) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("error: ") == 1 and "Traceback" not in said
    missing = [word for word in words if word not in said]
    assert not missing, said
    return said


def images(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (40, 40), (i % 256, 100, 200)).save(folder / f"{i}.png")
    return folder


def test_a_folder_that_is_not_there(tmp_path: Path, teacher: Path, capsys: Capture) -> None:
    argv = [str(tmp_path / "nowhere"), *arguments(tmp_path / "run", teacher)]
    said = ("no such file or folder", "check the path")
    refused(argv, capsys, str(tmp_path / "nowhere"), *said)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_images(tmp_path: Path, teacher: Path, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    argv = [str(tmp_path / "empty"), *arguments(tmp_path / "run", teacher)]
    refused(argv, capsys, "without images", "expected files such as .jpg", "Check the path")
    assert not (tmp_path / "run").exists()


def test_one_image(tmp_path: Path, teacher: Path, capsys: Capture) -> None:
    argv = [str(images(tmp_path / "one", 1)), *arguments(tmp_path / "run", teacher)]
    refused(argv, capsys, "got 1 image to train on", "expected 2 or more", "add images")
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_data_set(tmp_path: Path, teacher: Path, capsys: Capture) -> None:
    argv = arguments(tmp_path / "run", teacher, "-b", "32", "--limit", "20")
    refused(argv, capsys, "32", "20 images to train on", "expected", "--batch-size 16")
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_is_not_there(tmp_path: Path, capsys: Capture) -> None:
    argv = arguments(tmp_path / "run", tmp_path / "no.pth.tar")
    refused(argv, capsys, "no.pth.tar", "is no file", "expected a checkpoint's path")
    assert not (tmp_path / "run").exists()


def test_a_truncated_teacher(tmp_path: Path, teacher: Path, capsys: Capture) -> None:
    cut = tmp_path / "cut.pth.tar"
    cut.write_bytes(teacher.read_bytes()[:5000])
    argv = arguments(tmp_path / "run", cut)
    refused(argv, capsys, "cut.pth.tar", "expected a", "truncated", "copy or download it again")
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_another_architecture(tmp_path: Path, teacher: Path, capsys: Capture) -> None:
    argv = arguments(tmp_path / "run", teacher, "--teacher-arch", "resnet34")
    refused(argv, capsys, "partial load is refused", "missing: layer1.2", "--teacher-arch")
    assert not (tmp_path / "run").exists()


def test_a_pickled_object_in_the_teachers_place(tmp_path: Path, capsys: Capture) -> None:
    hostile = tmp_path / "hostile.pth.tar"
    torch.save({"state_dict": {}, "network": argparse.FileType()}, hostile)
    argv = arguments(tmp_path / "run", hostile)
    refused(argv, capsys, "pickled argparse.FileType", "expected tensors only", "state_dict()")
    hostile.write_bytes(pickle.dumps(print))
    refused(argv, capsys, "hostile.pth.tar", "expected")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--taps", "--teacher-taps"])
def test_taps_that_do_not_exist(
    tmp_path: Path, teacher: Path, capsys: Capture, option: str
) -> None:
    argv = arguments(tmp_path / "run", teacher, option, "layer2=layerr2")
    refused(argv, capsys, "layerr2", "layer2")
    assert not (tmp_path / "run").exists()


def test_a_queue_not_divisible_by_the_batch(tmp_path: Path, teacher: Path, capsys: Capture) -> None:
    argv = arguments(tmp_path / "run", teacher, "--moco-k", "100")
    refused(argv, capsys, "queue of 100", "batches of 16", "divisible", "nearest --moco-k 96")
    assert not (tmp_path / "run").exists()


def test_a_batch_not_divisible_by_the_batch_norm_splits(
    tmp_path: Path, teacher: Path, capsys: Capture
) -> None:
    argv = arguments(tmp_path / "run", teacher, "--bn-splits", "3")
    refused(argv, capsys, "got 16", "3 batch norm splits", "multiple of 3", "--bn-splits")


def test_a_loss_factor_of_zero(tmp_path: Path, teacher: Path, capsys: Capture) -> None:
    argv = arguments(tmp_path / "run", teacher, "--mgd-loss-factor", "0")
    refused(argv, capsys, "mgd_loss_factor: got 0, expected a number above 0")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "option",
    [
        ["--lr", "0", "--optimizer", "sgd"],
        ["--epochs", "0"],
        ["--warmup-epochs", "2"],
        ["--momentum", "1.5", "--optimizer", "sgd"],
    ],
)
def test_settings_of_the_training_are_checked_before_the_directory_is_taken(
    tmp_path: Path, teacher: Path, capsys: Capture, option: list[str]
) -> None:
    refused(arguments(tmp_path / "run", teacher, *option), capsys, "got", option[1], "expected")
    assert not (tmp_path / "run").exists()


def test_resume_and_overwrite_at_once(tmp_path: Path, teacher: Path, capsys: Capture) -> None:
    argv = arguments(tmp_path / "run", teacher, "--resume", "--overwrite")
    refused(argv, capsys, "--resume and --overwrite", "expected one of them")


def test_a_teacher_with_method_moco(tmp_path: Path, teacher: Path, capsys: Capture) -> None:
    argv = [*arguments(tmp_path / "run", teacher), "--method", "moco"]
    refused(argv, capsys, "--teacher with --method moco", "omit one of them")


def test_the_usual_numbers_of_neighbors_are_those_that_the_bank_holds(
    teacher: Path, tmp_path: Path
) -> None:
    argv = [str(teacher), "--limit", "50", "--limit-val", "20", "--out", str(tmp_path / "knn.json")]
    assert knn_eval.main(argv) == 0
    rows = json.loads((tmp_path / "knn.json").read_text())["knn"]
    assert {row["k"] for row in rows} == {1, 10, 20}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--knn-t", "0.1", "0"], "knn_t: got 0.0, expected above 0"),
        (
            ["--retrieve", "2", "--neighbors", "60"],
            "neighbors: got 60 neighbors and a bank of",
        ),
    ],
)
def test_what_no_neighbors_can_answer_is_refused_before_features_are_taken(
    teacher: Path, tmp_path: Path, capsys: Capture, more: list[str], message: str
) -> None:
    argv = [str(teacher), "--limit", "50", "--out", str(tmp_path / "knn.json"), *more]
    assert knn_eval.main(argv) == 1
    assert message in capsys.readouterr().err


def test_k_larger_than_the_bank(teacher: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "knn.json"
    argv = [str(teacher), "--limit", "50", "--knn-k", "5", "60", "--out", str(out)]
    assert knn_eval.main(argv) == 1
    said = capsys.readouterr().err
    assert "got 60 neighbors" in said and "bank of 50" in said and "smaller --knn-k" in said
    assert not out.exists()


def test_evaluators_say_what_a_file_is_when_it_is_no_checkpoint(
    tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    for command in (knn_eval, linear_eval):
        assert command.main([str(tmp_path / "notes.txt")]) == 1
        said = capsys.readouterr().err
        assert "notes.txt" in said and "expected a" in said
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_directory_that_holds_a_run(tmp_path: Path, teacher: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    assert pretrain.main(arguments(run, teacher, "--epochs", "1")) == 0
    before = listing(run)
    refused(arguments(run, teacher), capsys, "is not empty", "--resume", "--overwrite", "--out")
    assert listing(run) == before
    assert pretrain.main(arguments(run, teacher, "--epochs", "1", "--overwrite")) == 0
    assert [row["step"] for row in read_rows(run)] == [0, 1, 4]  # each row once


def test_a_run_directory_in_use(tmp_path: Path, teacher: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("seed: 7\n")
    with (run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for flag in ("--resume", "--overwrite"):
            refused(arguments(run, teacher, flag), capsys, "in use by another run", "--out")
    assert listing(run) == {".lock": b"", "config.yaml": b"seed: 7\n"}


def test_a_run_is_overwritten_with_what_was_measured_of_it_and_nothing_else(
    tmp_path: Path, teacher: Path, capsys: Capture
) -> None:
    run = tmp_path / "run"
    argv = arguments(run, teacher, "--epochs", "1", "--save-every", "2")
    assert pretrain.main(argv) == 0
    last = run / "checkpoints" / "last.pt"
    assert knn_eval.main([str(last), "--limit", "60", "--limit-val", "30", "--knn-k", "1"]) == 0
    assert (run / "checkpoints" / "last.pt.knn.json").exists()
    (run / "notes.txt").write_text("mine")
    before = listing(run)
    refused([*argv, "--overwrite"], capsys, "notes.txt, which no run writes", "nothing is deleted")
    assert listing(run) == before
    (run / "notes.txt").unlink()
    assert pretrain.main([*argv, "--overwrite"]) == 0
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"last.pt", "best.pt"}


@pytest.mark.parametrize("own", ["checkpoints/last.pt", "."])
def test_overwrite_does_not_delete_the_runs_own_teacher(
    tmp_path: Path, teacher: Path, capsys: Capture, own: str
) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.pt").write_bytes(teacher.read_bytes())
    argv = arguments(run, run / own, "--overwrite")
    refused(argv, capsys, "which teacher names and which would be deleted", "--out")
    assert listing(run) == {"checkpoints/last.pt": teacher.read_bytes()}


def test_overwrite_of_a_directory_that_is_no_run(
    tmp_path: Path, teacher: Path, capsys: Capture
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    argv = arguments(tmp_path, teacher, "--overwrite")
    refused(argv, capsys, "holds no config.yaml", "is no run and is not deleted", "--out")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("option", "name"),
    [
        (["--lr", "0.5"], "--lr: 0.02 in the checkpoint, 0.5 now"),
        (["--seed", "3"], "--seed: 0 in the checkpoint, 3 now"),
        (["--mgd-reducer", "rd"], "--mgd-reducer: amp in the checkpoint, rd now"),
        (["--limit", "48"], "--limit: 64 in the checkpoint, 48 now; DATA: 64 images"),
        (["--no-cos"], "--cos: True in the checkpoint, False now"),
    ],
)
def test_a_resume_with_other_settings_names_them(
    tmp_path: Path, teacher: Path, capsys: Capture, option: list[str], name: str
) -> None:
    run = tmp_path / "run"
    assert pretrain.main(arguments(run, teacher, "--epochs", "1")) == 0
    before = listing(run / "checkpoints"), (run / "config.yaml").read_bytes()
    argv = arguments(run, teacher, "--epochs", "1", "--resume", *option)
    refused(argv, capsys, "settings differ", name, "config.yaml", "--out")
    assert (listing(run / "checkpoints"), (run / "config.yaml").read_bytes()) == before


def test_a_resume_with_another_teacher_of_the_same_name(tmp_path: Path, capsys: Capture) -> None:
    path, run = tmp_path / "teacher.pth.tar", tmp_path / "run"
    write_teacher(path)
    assert pretrain.main(arguments(run, path, "--epochs", "1")) == 0
    write_teacher(path, width=0.5)
    argv = arguments(run, path, "--epochs", "1", "--resume")
    refused(argv, capsys, "settings differ", "teacher's weights")


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(
    tmp_path: Path, teacher: Path, capsys: Capture
) -> None:
    run = tmp_path / "run"
    argv = arguments(run, teacher, "--lr", "1e30", "--save-every", "1")
    said = refused(argv, capsys, "the loss is not finite", "lower --lr", "epoch 1, step")
    assert "contrastive " in said and "matching/layer4 " in said
    last = read_last(run)
    assert last["progress"]["step"] < int(said.split("epoch 1, step ")[1].split(":")[0])


def test_features_that_are_not_numbers(tmp_path: Path, teacher: Path, capsys: Capture) -> None:
    content = torch.load(teacher, weights_only=True)
    content["state_dict"]["module.encoder_q.layer4.1.bn2.weight"].fill_(3e38)
    torch.save(content, tmp_path / "nan.pth.tar")
    argv = [str(tmp_path / "nan.pth.tar"), "--limit", "60", "--limit-val", "30", "--knn-k", "1"]
    assert knn_eval.main(argv) == 1
    said = capsys.readouterr().err
    assert "not finite" in said or "NaN" in said
    argv = arguments(tmp_path / "run", tmp_path / "nan.pth.tar")
    refused(argv, capsys, "features: not finite", "expected finite features", "look for")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_keeps_the_last_good_checkpoint(
    tmp_path: Path, teacher: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, argv = tmp_path / "run", ["--save-every", "2"]
    write = checkpoint.write_whole

    def full_at_step_8(path: Path, content: object) -> None:
        done = run / "checkpoints" / "last.pt"
        if path == done and done.exists() and read_last(run)["progress"]["epoch"] == 1:
            monkeypatch.setattr(os, "fsync", no_space)
        write(path, content)  # type: ignore[arg-type]

    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "write_whole", full_at_step_8)
    refused(arguments(run, teacher, *argv), capsys, "No space left", "stays", "--resume")
    monkeypatch.undo()
    progress = read_last(run)["progress"]
    assert (progress["epoch"], progress["step"]) == (1, 0)
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"last.pt", "best.pt"}
    assert pretrain.main(arguments(run, teacher, *argv, "--resume")) == 0
    assert read_last(run)["progress"]["epoch"] == 2


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("--teachr", "--teacher"), ("--moco-kk", "--moco-k"), ("--epoch", "--epochs")],
)
def test_a_misspelt_option_names_the_nearest(capsys: Capture, wrong: str, right: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        pretrain.main([wrong, "3"])
    said = capsys.readouterr()
    assert stopped.value.code not in (0, None)
    words = (said.err + said.out).split()
    assert any(word.strip(",.:│") == right for word in words)


@pytest.mark.parametrize("given", ["runs/x/config.yaml", None])
def test_a_config_that_is_not_there(capsys: Capture, given: str | None) -> None:
    argv = ["--config", given] if given else ["--config"]
    assert pretrain.main(argv) == 1
    assert "expected" in capsys.readouterr().err


def test_a_misspelt_command_names_the_nearest(capsys: Capture) -> None:
    assert main.main(["pretrian"]) == 2
    said = capsys.readouterr().err
    assert "no command 'pretrian'; did you mean pretrain?" in said and "usage: mgd-ssl" in said


def test_a_command_gets_the_rest_of_the_line(tmp_path: Path, capsys: Capture) -> None:
    assert main.main(["knn-eval", str(tmp_path / "nothing.pt")]) == 1
    assert "which is no file" in capsys.readouterr().err


def test_too_many_images_that_cannot_be_decoded_stop_a_run(
    tmp_path: Path, teacher: Path, capsys: Capture
) -> None:
    folder = images(tmp_path / "images", 40)
    (folder / "broken.png").write_text("not an image")
    argv = [str(folder), *arguments(tmp_path / "run", teacher), "-j", "0"]
    refused(argv, capsys, "cannot be decoded", "broken.png", "expected at most 1.0%", "Remove")
