"""What a resumption may change, and what it names where it may not."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from image_files import class_tree
from test_resume import differences
from tiny_runs import arguments, read_last, stop_at

from mgd_ssl.commands import pretrain
from mgd_ssl.settings.classify import ClassifyConfig
from mgd_ssl.settings.config_file import saved
from mgd_ssl.settings.options import to_dict
from mgd_ssl.settings.parsing import complete
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.settings.run import RunConfig
from mgd_ssl.training.same_run import check_same_run, start_digest

SOURCES = {"teacher": "t", "start": None, "images": 72, "data": "d"}
Capture = pytest.CaptureFixture[str]


def config() -> PretrainConfig:
    return complete(PretrainConfig, data=Path("images"), method="moco", weight_decay=1e-4)


def check(now: RunConfig, before: Any = None, **changed: Any) -> None:
    content = {"config": before or saved(config()), "steps_per_epoch": 4, **SOURCES, **changed}
    check_same_run(now, content, SOURCES, 4, Path("run/config.yaml"))


def test_where_images_teacher_and_results_lie_is_free() -> None:
    before = config()
    teacher = replace(before.teacher, teacher=Path("elsewhere.pt"))
    loader = replace(before.loader, workers=2, bad_images=0.5)
    evaluation = replace(before.evaluation, knn_every=1)
    check(replace(before, data=Path("/a/images"), teacher=teacher, out=Path("o"), loader=loader))
    check(replace(before, evaluation=evaluation, print_freq=1, save_every=3, resume=True))


def test_the_option_and_both_its_values_are_named() -> None:
    before = config()
    views = replace(before.views, crop_min=0.5)
    changed = replace(before, optim=replace(before.optim, weight_decay=0.5), views=views)
    with pytest.raises(ValueError, match="the settings differ") as refused:
        check(changed)
    said = str(refused.value)
    assert "--weight-decay: 0.0001 in the checkpoint, 0.5 now" in said
    assert "--crop-min: 0.2 in the checkpoint, 0.5 now" in said
    assert said.count("in the checkpoint") == 2 and "run/config.yaml" in said


def test_of_many_options_the_first_are_named_and_the_others_counted() -> None:
    before = config()
    changed = replace(
        before,
        seed=7,
        optim=replace(before.optim, lr=0.5, weight_decay=0.5, momentum=0.5, batch_size=9),
        views=replace(before.views, crop_min=0.5, flip_p=0.25, gray_p=0.75),
    )
    with pytest.raises(ValueError, match="and 2 more options") as refused:
        check(changed)
    assert str(refused.value).count("in the checkpoint") == 6


def test_steps_of_another_batch_are_no_reason_of_their_own() -> None:
    before = config()
    changed = replace(before, optim=replace(before.optim, batch_size=128))
    with pytest.raises(ValueError, match="--batch-size: 0 in the checkpoint, 128 now; give") as e:
        check(changed, steps_per_epoch=2)
    assert "steps an epoch" not in str(e.value) and "images" not in str(e.value)


def test_a_rate_that_the_run_found_is_called_so() -> None:
    before = config()
    given = replace(before, optim=replace(before.optim, lr=0.004))
    assert before.optim.lr == 0
    with pytest.raises(ValueError, match=r"--lr: found by the run in the checkpoint, 0\.004 now"):
        check(given)


def test_precision_is_bound_though_its_section_is_free() -> None:
    before = config()
    with pytest.raises(ValueError, match="--precision: auto in the checkpoint, bf16 now"):
        check(replace(before, device=replace(before.device, precision="bf16")))


def test_other_epochs_alone_are_refused_with_the_reason() -> None:
    before = config()
    longer = replace(before, optim=replace(before.optim, epochs=300))
    with pytest.raises(ValueError, match=r"--epochs: 200 in the checkpoint, 300 now.*schedules"):
        check(longer)


def test_an_option_that_the_checkpoint_did_not_know_stood_at_its_default() -> None:
    before = to_dict(config())
    del before["optim"]["nesterov"], before["mgd"]["mgd_update_images"]
    check(config(), before)
    nesterov = replace(config(), optim=replace(config().optim, nesterov=True))
    with pytest.raises(ValueError, match="--nesterov: False in the checkpoint, True now"):
        check(nesterov, before)


def test_an_option_that_is_no_more_does_not_block() -> None:
    before = to_dict(config())
    before["optim"]["dampening"] = 0.1
    check(config(), before)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"teacher": "u"}, "the teacher's weights are others"),
        ({"data": "e"}, "72 training images as in the checkpoint, but of other names"),
        ({"data": "e", "images": 75}, "DATA: 75 images in the checkpoint, 72 now"),
        ({"start": "s"}, "the weights that the student starts from are others"),
        ({"steps_per_epoch": 5}, "5 steps an epoch in the checkpoint, 4 now"),
    ],
)
def test_other_images_or_weights_are_named(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check(config(), **changed)


def test_a_teacher_that_was_forgotten_is_asked_for_alone() -> None:
    before = saved(config()) | {"seed": 7, "teacher": {"teacher": "zoo/moco.pt"}}
    content = {"config": before, "steps_per_epoch": 4, **SOURCES}
    with pytest.raises(ValueError, match=r"expected the same: --teacher zoo/moco\.pt$"):
        check_same_run(config(), content, SOURCES | {"teacher": None}, 4, Path("config.yaml"))


def test_a_checkpoint_without_digests_is_not_blocked_by_them() -> None:
    content = {"config": to_dict(config()), "steps_per_epoch": 4, "teacher": "t"}
    check_same_run(config(), content, SOURCES, 4, Path("config.yaml"))


def test_a_run_of_another_command_is_named() -> None:
    with pytest.raises(ValueError, match=r"a run of pretrain.py, expected one of mgd-ssl classify"):
        check(complete(ClassifyConfig))


def test_weights_to_start_from_count_by_their_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    started = [start_digest(ClassifyConfig(student_weights=p)) for p in (first, second)]
    assert started[0] == started[1] != start_digest(ClassifyConfig())
    assert start_digest(ClassifyConfig(student_weights=Path("resnet50"))) == "resnet50"


def test_a_moved_run_goes_on_to_the_same_bits_and_one_with_other_images_does_not(
    tmp_path: Path, teacher: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = class_tree(tmp_path / "images", {"a": 28, "b": 28})  # 8 are held out
    more = ["--limit", "48", "-j", "0", "--method", "mgd-plus"]

    def argv(folder: str | Path, run: str, path: Path, *flags: str) -> list[str]:
        return [str(folder), *arguments(tmp_path / run, path, *more, *flags)]

    assert pretrain.main(argv(data, "whole", teacher)) == 0
    with monkeypatch.context() as patched:
        stop_at(4, patched)
        assert pretrain.main(argv(data, "run", teacher)) == 128 + signal.SIGTERM
    copy = shutil.copy(teacher, tmp_path / "copy.pt")
    shutil.copytree(data, tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "run", tmp_path / "moved")
    (tmp_path / "elsewhere" / "a" / "0.png").rename(tmp_path / "elsewhere" / "a" / "zero.png")
    assert pretrain.main(argv(tmp_path / "elsewhere", "run", teacher, "--resume")) == 1
    assert "48 training images as in the checkpoint, but of other" in capsys.readouterr().err
    (tmp_path / "link").symlink_to("images")
    monkeypatch.chdir(tmp_path)
    assert pretrain.main(argv("link", "moved", Path(copy), "--resume")) == 0
    left, right = read_last(tmp_path / "moved"), read_last(tmp_path / "whole")
    for content in (left, right):
        content.pop("config")
    named = [content.pop("provenance")["teacher"]["sha256"] for content in (left, right)]
    assert named[0].keys() != named[1].keys()  # the copy has another name, and the same bytes
    assert [*named[0].values()] == [*named[1].values()]
    assert differences(left, right) == []
