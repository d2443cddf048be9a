"""Steps in parts, gradients with a limit, and the average of the student."""

import copy
import itertools
import json
import math
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from forked import killed_in_step, run_on_two
from safetensors.torch import load_file
from test_resume import differences
from tiny_runs import arguments, measure_few, read_last, read_rows
from torch import nn

from mgd_ssl.commands import classify, knn_eval, pretrain
from mgd_ssl.models import load_backbone
from mgd_ssl.runs.pretrain import PretrainRun, build
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.tasks.task import TaughtView
from mgd_ssl.training.average import StudentAverage
from mgd_ssl.training.devices import start_fabric
from mgd_ssl.training.loop import take_step
from mgd_ssl.training.stop_signal import StopNow
from mgd_ssl.training.updating import part_of

# A student, adapters and a head without batch norm; SGD, as AdamW divides by small gradients.
NO_NORMS = (
    *("--method", "mgd-plus", "--mgd-adapter", "group", "-a", "timm/convnext_atto"),
    *("--width", "1", "--stem", "imagenet", "--optimizer", "sgd", "--lr", "0.02"),
    *("--epochs", "1", "--limit", "48"),
)
PLUS = (
    *("--method", "mgd-plus", "--optimizer", "sgd", "--lr", "0.05", "--save-every", "1"),
    *("-p", "1"),
)


def without(words: list[str], *options: str) -> list[str]:
    """A command line without options of one value."""
    for option in options:
        place = words.index(option)
        del words[place : place + 2]
    return words


def no_norms(out: Path, teacher: Path, *more: str) -> list[str]:
    words = arguments(out, teacher, *NO_NORMS, *more)
    return without(words, "--stem-stride", "--bn-splits")


def farthest(first: Any, second: Any) -> float:
    """The largest difference of two state dicts, relative to the size of the tensor."""
    return max(
        float((first[k] - v).norm() / (v.norm() + 1e-8))
        for k, v in second.items()
        if v.is_floating_point()
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> dict[str, Any]:
    run = tmp_path_factory.mktemp("whole") / "run"
    assert pretrain.main(no_norms(run, teacher)) == 0
    return read_last(run)


def test_a_batch_in_parts_trains_as_the_whole_batch(
    tmp_path: Path, teacher: Path, whole: dict[str, Any]
) -> None:
    assert pretrain.main(no_norms(tmp_path / "run", teacher, "--accumulate", "4")) == 0
    parts = read_last(tmp_path / "run")
    assert farthest(parts["state_dict"], whole["state_dict"]) < 1e-4
    assert [parts[k] for k in ("epoch", "steps_per_epoch")] == [1, 3]


def test_a_batch_in_parts_trains_as_the_whole_batch_on_two_processes(
    tmp_path: Path, teacher: Path
) -> None:
    two = ("--accelerator", "cpu", "--health-every", "0", "--best", "last")
    found = []
    for parts in ("1", "2"):
        argv = no_norms(tmp_path / parts, teacher, *two, "--accumulate", parts)
        run_on_two("pretrain", argv)
        found.append(read_last(tmp_path / parts)["state_dict"])
    assert farthest(found[1], found[0]) < 1e-4


def test_parts_of_views_with_a_teachers_answers_make_up_the_whole() -> None:
    view = TaughtView(torch.rand(6, 3, 4, 4), [torch.rand(6, 2, 1, 1)], torch.rand(6, 5))
    parts = [part_of(view, number, 3) for number in range(3)]
    assert torch.equal(torch.cat([part.images for part in parts]), view.images)
    assert torch.equal(torch.cat([part.maps[0] for part in parts]), view.maps[0])
    assert torch.equal(torch.cat([part.output for part in parts]), view.output)
    assert part_of(view._replace(maps=[]), 0, 3).maps == []


def test_smaller_batches_train_otherwise(
    tmp_path: Path, teacher: Path, whole: dict[str, Any]
) -> None:
    """The tolerance above tells parts of a batch from batches of that size."""
    assert pretrain.main(no_norms(tmp_path / "run", teacher, "-b", "8")) == 0
    assert farthest(read_last(tmp_path / "run")["state_dict"], whole["state_dict"]) > 1e-2


def test_a_classifier_learns_from_a_batch_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_few(monkeypatch)
    words = ["-a", "timm/convnext_atto", "--width", "1", "--stem", "imagenet", "--limit", "32"]
    words += ["-b", "16", "--epochs", "1"]
    for parts in ("1", "4"):
        out = ["--out", str(tmp_path / parts), "--optimizer", "sgd", "--lr", "0.01"]
        assert classify.main([*words, "--accumulate", parts, *out]) == 0
    one, four = (read_last(tmp_path / parts)["state_dict"] for parts in ("1", "4"))
    assert farthest(four, one) < 1e-4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "seed", "--teacher", "t.pt"], "accumulate: got 2 with --method seed, whose"),
        (["--method", "moco"], "accumulate: got 2 with --method moco, whose queue"),
        (["--method", "mgd", "--teacher", "t.pt"], "accumulate: got 2 with --method mgd, whose"),
        (["--accumulate", "0"], "accumulate: got 0, expected 1 or more"),
        (["--clip-grad", "0"], "clip_grad: got 0.0, expected above 0"),
        (["--ema", "1"], "ema: got 1.0, expected from 0 to below 1"),
        (["--ema", "-0.1"], "ema: got -0.1, expected 0 or more"),
        (["-b", "6", "--accumulate", "4"], "expected a multiple of 4; give --batch-size 4"),
        (["-b", "4", "--accumulate", "4"], "batch norms would see one image.*--batch-size 8"),
    ],
)
def test_what_does_not_add_up_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    argv = ["--accumulate", "2", "--method", "simreg", "--out", str(tmp_path / "run"), *words]
    assert pretrain.main(argv) == 1
    refusal = " ".join(capsys.readouterr().err.split())
    assert re.search(said, refusal)


def set_up(out: Path, teacher: Path, *more: str) -> PretrainRun:
    """A run before its first step, its matching not solved."""
    argv = arguments(out, teacher, "--method", "simreg", "--optimizer", "sgd", *more)
    config = parse(PretrainConfig, "pretrain.py", argv)
    run = build(config, start_fabric(config.device))
    run.module, run.optimizer = run.fabric.setup(run.task, run.optimizer)
    return run


@pytest.mark.parametrize("largest", [1e-3, 1e3])
def test_the_step_is_as_long_as_the_largest_gradient_allows(
    tmp_path: Path, teacher: Path, largest: float
) -> None:
    plain = ("--momentum", "0", "--wd", "0", "--lr", "1", "--clip-grad", str(largest))
    run = set_up(tmp_path / "run", teacher, *plain)
    trained = [p for p in run.task.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in trained]
    (batch,) = islice(run.data.loader, 1)
    seen: list[float] = []

    def update() -> None:
        seen.append(math.sqrt(sum(float(p.grad.double().square().sum()) for p in trained)))  # type: ignore[union-attr]
        run.update()

    take_step(run.fabric, run.optimizer, run.parts(batch), update)
    pairs = zip(trained, before, strict=True)
    moved = [float((p.detach() - q).double().square().sum()) for p, q in pairs]
    expected = run.optimizer.param_groups[0]["lr"] * min(largest, seen[0])
    assert math.sqrt(sum(moved)) == pytest.approx(expected, rel=1e-3)
    assert 1e-3 < seen[0] < 1e3


# the average


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_the_average_follows_its_formula() -> None:
    network, decay = small_network(), 0.75
    average = StudentAverage(network, decay)
    expected: dict[str, torch.Tensor] = {}
    for step in range(5):
        with torch.no_grad():
            for value in network.state_dict().values():
                value.copy_(torch.randn(value.shape) if value.is_floating_point() else step + 7)
        now = {k: v.double() for k, v in copy.deepcopy(network.state_dict()).items()}
        expected = {
            k: v if not step or "batches" in k else decay * expected[k] + (1 - decay) * v
            for k, v in now.items()
        }
        average.update()
    for name, value in average.model.module.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-6, atol=1e-7)


def behind() -> tuple[nn.Module, StudentAverage]:
    """A student, and its average that differs from it."""
    network = small_network()
    average = StudentAverage(network, 0.5)
    average.update()
    with torch.no_grad():
        network[0].weight += 1  # type: ignore[operator]
    return network, average


def test_the_average_takes_the_students_place_and_gives_it_back() -> None:
    network, average = behind()
    own, mean = (copy.deepcopy(m.state_dict()) for m in (network, average.model.module))
    x = torch.randn(5, 3)
    expected = average.model.module.eval()(x)
    with average.in_place():
        assert torch.equal(network.eval()(x), expected)
        assert differences(network.state_dict(), mean) == []
        assert differences(average.state(), {"steps": 1, "student": own}) == []
    assert differences(network.state_dict(), own) == []
    with pytest.raises(RuntimeError), average.in_place():
        raise RuntimeError
    assert differences(network.state_dict(), own) == []


def test_a_signal_at_any_line_leaves_student_and_average_their_own_values() -> None:
    network, average = behind()
    both = (network, average.model.module)
    before = [copy.deepcopy(m.state_dict()) for m in both]
    broken = 0
    for line in itertools.count():
        try:
            with raising_at(line, "average.py"), average.in_place():
                pass
        except StopNow:
            broken += 1
        else:
            break
        assert [differences(m.state_dict(), b) for m, b in zip(both, before, strict=True)] == [
            [],
            [],
        ]
    assert broken > 2 * len(before[0])  # in both exchanges


@contextmanager
def raising_at(line: int, file: str) -> Iterator[None]:
    """Inside, a stop comes as the so-many-th line of a file is to be run."""
    left = line

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(file):
            return None
        if event == "line":
            left -= 1
            if left == -1:
                raise StopNow
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


@pytest.fixture(scope="module")
def averaged_students(
    tmp_path_factory: pytest.TempPathFactory, teacher: Path
) -> tuple[Path, list[dict[str, torch.Tensor]]]:
    """A run with an average, and the student after each of its steps."""
    run = tmp_path_factory.mktemp("averaged") / "run"
    students: list[dict[str, torch.Tensor]] = []
    update = PretrainRun.update

    def noting(self: PretrainRun) -> None:
        update(self)
        students.append(copy.deepcopy(self.task.student.state_dict()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PretrainRun, "update", noting)
        assert pretrain.main(averaging(run, teacher)) == 0
    return run, students


@pytest.fixture(scope="module")
def averaged(averaged_students: tuple[Path, list[dict[str, torch.Tensor]]]) -> Path:
    return averaged_students[0]


def averaging(run: Path, teacher: Path, *more: str) -> list[str]:
    options = ("--ema", "0.5", "--accumulate", "2", "--clip-grad", "0.5", "--channels-last")
    options = (*options, "--knn-every", "1", "--knn-k", "3", "--knn-bank", "100")
    return without(arguments(run, teacher, *PLUS, *options, *more), "--bn-splits")


def student_of(content: dict[str, Any]) -> dict[str, torch.Tensor]:
    start = "module.encoder_q."
    state = content["state_dict"].items()
    return {k.removeprefix(start): v for k, v in state if k.startswith(start)}


def test_the_average_is_what_is_saved_exported_and_measured(averaged: Path, tmp_path: Path) -> None:
    content = read_last(averaged)
    mean, own = student_of(content), content["unaveraged"]["student"]
    assert content["unaveraged"]["steps"] == 8
    assert farthest(mean, own) > 1e-4
    exported = load_file(averaged / "student.safetensors")
    assert differences({k: mean[k] for k in exported}, exported) == []
    network, _ = load_backbone(averaged / "checkpoints" / "last.pt")
    assert differences({k: network.state_dict()[k] for k in exported}, exported) == []
    out = tmp_path / "knn.json"
    bank = ["--limit", "100", "--knn-k", "3", "--knn-t", "0.1"]
    words = [str(averaged), *bank, "--out", str(out)]
    assert knn_eval.main([*words, "--channels-last"]) == 0
    (row,) = json.loads(out.read_text())["knn"]
    assert row["top1"] == pytest.approx(read_rows(averaged)[-1]["val_knn_top1"], abs=0.05)


def test_the_average_is_the_mean_of_the_students_of_all_steps(
    averaged_students: tuple[Path, list[dict[str, torch.Tensor]]],
) -> None:
    averaged, students = averaged_students
    weights = [0.5**7, *(0.5 ** (8 - step) for step in range(1, 8))]
    mean = student_of(read_last(averaged))
    for name, value in mean.items():
        if value.is_floating_point():
            expected = sum(w * s[name].double() for w, s in zip(weights, students, strict=True))
            torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_killed_run_with_all_of_it_resumes_to_the_same_bits(
    tmp_path: Path, teacher: Path, averaged: Path
) -> None:
    run = tmp_path / "run"
    killed_in_step(7, "pretrain", averaging(run, teacher))
    assert pretrain.main(averaging(run, teacher, "--resume")) == 0
    first, second = read_last(run), read_last(averaged)
    for content in (first, second):
        content.pop("config")
    assert differences(first, second) == []
    figures = [read_rows(path)[-1]["val_knn_top1"] for path in (run, averaged)]
    assert figures[0] == figures[1]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--ema", "0.9"], "--ema: 0.5 in the checkpoint, 0.9 now"),
        (["--accumulate", "4"], "--accumulate: 2 in the checkpoint, 4 now"),
        (["--clip-grad", "1"], "--clip-grad: 0.5 in the checkpoint, 1.0 now"),
    ],
)
def test_other_options_of_the_update_are_no_continuation(
    teacher: Path,
    averaged: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    said: str,
) -> None:
    assert pretrain.main([*averaging(averaged, teacher), "--resume", *more]) == 1
    assert said in capsys.readouterr().err


def test_a_checkpoint_without_its_average_is_refused_by_name(
    tmp_path: Path, teacher: Path, averaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(averaged, tmp_path / "run"))
    content = read_last(run)
    del content["unaveraged"]["student"]["conv1.weight"]
    torch.save(content, run / "checkpoints" / "last.pt")
    assert pretrain.main(averaging(run, teacher, "--resume")) == 1
    assert "unaveraged.student: 1 entries are not those of this run" in capsys.readouterr().err
    del content["unaveraged"]
    torch.save(content, run / "checkpoints" / "last.pt")
    assert pretrain.main(averaging(run, teacher, "--resume")) == 1
    assert "unaveraged: got nothing, expected a mapping" in capsys.readouterr().err
