"""A training command makes its teacher cache first, and trains as from one that was there."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from cache_runs import (
    IMAGES,
    NO_FIGURES,
    VIEWS,
    Capture,
    in_small_parts,
    make_apart,
    refused,
    train,
    words,
    write_data,
)
from forked import run_on_two
from test_resume import differences
from tiny_runs import asked, listing, read_last, stop_at

from mgd_ssl.commands import classify, pretrain
from mgd_ssl.runs import cache as runs
from mgd_ssl.runs import output_folder
from mgd_ssl.settings.cache import CacheConfig
from mgd_ssl.settings.parsing import complete, parse
from mgd_ssl.settings.pretrain import PretrainConfig

Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: Patch) -> None:
    monkeypatch.setattr(runs, "PART_IMAGES", 16)


def assert_same_student(folder: Path, other: Path) -> None:
    first, second = (read_last(place / "run")["state_dict"] for place in (folder, other))
    assert differences(first, second) == []


@pytest.fixture(scope="module")
def before(data: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not interrupted, with the cache that it made."""
    folder = tmp_path_factory.mktemp("before")
    with Patch.context() as patch:
        patch.setattr(runs, "PART_IMAGES", 16)
        assert train(data, teacher, folder) == 0
    return folder


def test_it_makes_the_cache_of_the_command_and_trains_as_from_it(
    data: Path, teacher: Path, tmp_path: Path, before: Path
) -> None:
    make_apart(data, teacher, tmp_path / "cache")
    assert listing(tmp_path / "cache") == listing(before / "cache")
    assert train(data, teacher, tmp_path, "--cache-views", "0") == 0
    assert_same_student(tmp_path, before)


def test_a_classifier_makes_its_own(data: Path, teacher: Path, tmp_path: Path) -> None:
    found = []
    for name, views in (("apart", "0"), ("before", str(VIEWS))):
        if views == "0":
            make_apart(data, teacher, tmp_path / name / "cache")
        argv = words(data, teacher, tmp_path / name, "--cache-views", views)
        assert classify.main(argv) == 0
        found.append((listing(tmp_path / name / "cache"), read_last(tmp_path / name / "run")))
    assert found[0][0] == found[1][0]
    assert differences(found[0][1]["state_dict"], found[1][1]["state_dict"]) == []


def test_of_methods_without_matching_no_maps_are_stored(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    assert train(data, teacher, tmp_path, "--method", "simreg", "--epochs", "1") == 0
    make_apart(data, teacher, tmp_path / "apart", "--no-maps")
    assert listing(tmp_path / "cache").keys() == listing(tmp_path / "apart").keys()
    sizes = [
        sum(len(content) for name, content in listing(place).items() if "view" in name)
        for place in (tmp_path / "cache", tmp_path / "apart")
    ]
    assert sizes[0] == sizes[1]


def test_a_cache_that_is_there_is_not_made_again(
    data: Path, teacher: Path, tmp_path: Path, before: Path, monkeypatch: Patch
) -> None:
    calls = asked(monkeypatch)
    words = ["--teacher-cache", str(before / "cache"), "--seed", "1"]
    assert train(data, teacher, tmp_path, *words) == 0
    assert sum(calls) <= 8 + 16  # the look at its features, and the comparison with the cache


def test_views_are_added_where_more_are_asked_for(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    make_apart(data, teacher, tmp_path / "cache")
    first = listing(tmp_path / "cache")
    assert train(data, teacher, tmp_path, "--cache-views", "3", "--epochs", "1") == 0
    found = listing(tmp_path / "cache")
    assert {name: found[name] for name in first if "view" in name} == {
        name: content for name, content in first.items() if "view" in name
    }
    make_apart(data, teacher, tmp_path / "apart", "--views", "3")
    assert found == listing(tmp_path / "apart")


def test_a_cache_that_has_grown_serves_a_run_of_fewer_views(
    data: Path, teacher: Path, tmp_path: Path, before: Path, monkeypatch: Patch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        assert train(data, teacher, tmp_path) != 0
    make_apart(data, teacher, tmp_path / "cache", "--views", "3")  # for another run
    assert train(data, teacher, tmp_path, "--resume") == 0
    assert_same_student(tmp_path, before)
    grown = ["--cache-views", "0", "--out", str(tmp_path / "three")]
    assert train(data, teacher, tmp_path, *grown) == 0  # all that are there
    third = read_last(tmp_path / "three")["state_dict"]
    assert differences(third, read_last(before / "run")["state_dict"]) != []


def test_a_run_does_not_go_on_with_another_number_of_views(
    data: Path, teacher: Path, tmp_path: Path, capsys: Capture, monkeypatch: Patch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        assert train(data, teacher, tmp_path) != 0
    said = refused(capsys, train(data, teacher, tmp_path, "--resume", "--cache-views", "3"))
    assert "--cache-views: 2 in the checkpoint, 3 now" in said
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_bytes())
    assert config["cache_views"] == 2


def test_what_stops_it_while_it_makes_the_cache_costs_nothing(
    data: Path, teacher: Path, tmp_path: Path, before: Path, monkeypatch: Patch
) -> None:
    write = output_folder.write_part
    written: list[Path] = []

    def failing(path: Path, *rest: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write(path, *rest)

    monkeypatch.setattr(output_folder, "write_part", failing)
    assert train(data, teacher, tmp_path) != 0
    assert not (tmp_path / "run").exists()
    kept = {path: path.stat().st_mtime_ns for path in written}
    monkeypatch.setattr(output_folder, "write_part", write)
    assert train(data, teacher, tmp_path) == 0
    assert {path: path.stat().st_mtime_ns for path in written} == kept
    assert listing(tmp_path / "cache") == listing(before / "cache")
    assert_same_student(tmp_path, before)


def test_a_run_that_is_replaced_stays_until_the_cache_is_made(
    data: Path, teacher: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    assert train(data, teacher, tmp_path, "--epochs", "1") == 0
    before = listing(tmp_path / "run")

    def failing(*_: Any) -> None:
        raise KeyboardInterrupt

    other = ["--teacher-cache", str(tmp_path / "other"), "--overwrite", "--epochs", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(output_folder, "write_part", failing)
        assert train(data, teacher, tmp_path, *other) != 0
    assert listing(tmp_path / "run") == before
    assert train(data, teacher, tmp_path, *other) == 0
    assert (tmp_path / "run" / "train.log").read_text() != before["train.log"].decode()


def test_a_stopped_run_resumes_with_the_same_command(
    data: Path, teacher: Path, tmp_path: Path, before: Path, monkeypatch: Patch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        assert train(data, teacher, tmp_path) != 0
    calls = asked(monkeypatch)
    assert train(data, teacher, tmp_path, "--resume") == 0
    assert sum(calls) <= 8 + 16
    assert_same_student(tmp_path, before)


def test_views_are_added_with_the_seed_and_the_maps_of_those_that_are_there(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    for folder, views in (("cache", "1"), ("apart", "2")):
        make_apart(data, teacher, tmp_path / folder, "--views", views, "--seed", "3")
    assert train(data, teacher, tmp_path, "--method", "simreg", "--epochs", "1") == 0
    assert listing(tmp_path / "cache") == listing(tmp_path / "apart")


def test_a_finished_run_makes_no_cache_that_it_does_not_read(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    assert train(data, teacher, tmp_path, "--epochs", "1") == 0
    shutil.rmtree(tmp_path / "cache")
    assert train(data, teacher, tmp_path, "--epochs", "1", "--resume") == 0
    assert not (tmp_path / "cache").exists()


def test_a_stopped_cache_of_more_views_is_made_as_far_as_a_run_reads_it(
    data: Path, teacher: Path, tmp_path: Path, before: Path
) -> None:
    make_apart(data, teacher, tmp_path / "cache", "--views", "3")
    for name in ("view_0001/000001.safetensors", "view_0002/000000.safetensors"):
        (tmp_path / "cache" / name).unlink()  # as if it had been stopped
    assert train(data, teacher, tmp_path) == 0
    assert (tmp_path / "cache" / "view_0001/000001.safetensors").exists()
    assert not (tmp_path / "cache" / "view_0002/000000.safetensors").exists()
    assert_same_student(tmp_path, before)


def test_a_preset_and_the_same_crops_in_numbers_are_one_cache(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    assert train(data, teacher, tmp_path, "--preset", "moco_v2", "--epochs", "1") == 0
    make_apart(data, teacher, tmp_path / "cache", "--crop-min", "0.2", "--views", "3")


def test_two_processes_make_it_together(
    data: Path, teacher: Path, tmp_path: Path, before: Path
) -> None:
    argv = words(data, teacher, tmp_path, *NO_FIGURES, "--accelerator", "cpu", "--epochs", "1")
    run_on_two("pretrain", argv, in_small_parts)
    assert listing(tmp_path / "cache") == listing(before / "cache")


@pytest.mark.parametrize("batch", [["-b", "16"], []])
def test_a_dry_run_makes_none(
    data: Path, teacher: Path, tmp_path: Path, capsys: Capture, batch: list[str]
) -> None:
    argv = words(data, teacher, tmp_path, *NO_FIGURES)
    at = argv.index("-b")
    assert pretrain.main([*argv[:at], *argv[at + 2 :], *batch, "--dry-run"]) == 0
    assert list(tmp_path.iterdir()) == []
    said = capsys.readouterr().err
    assert "no teacher cache is made" in said
    assert re.findall(r"images: (\d+), views of each: (\d+)", said) == [(str(IMAGES), str(VIEWS))]
    assert re.search("about .* to make; training is then about .* shorter for each view", said)


def test_a_dry_run_reads_one_that_is_there(
    data: Path, teacher: Path, tmp_path: Path, before: Path, capsys: Capture
) -> None:
    there = ["--teacher-cache", str(before / "cache")]
    assert train(data, teacher, tmp_path, "--dry-run", *there) == 0
    assert "the teacher is not run" in capsys.readouterr().err


def test_a_limited_run_says_that_the_cache_is_of_all_images(
    data: Path, teacher: Path, tmp_path: Path, before: Path, capsys: Capture
) -> None:
    assert train(data, teacher, tmp_path, "--limit", "16", "--epochs", "1") == 0
    said = capsys.readouterr().err
    assert f"a cache is of all {IMAGES} images of DATA, and this run trains on 16 of them" in said
    assert listing(tmp_path / "cache") == listing(before / "cache")


# the settings


@pytest.mark.parametrize("size", [64, 96, 224])
def test_the_defaults_are_those_of_the_cache(tmp_path: Path, size: int) -> None:
    """Side of the teacher's views, grid of its maps and crops, as mgd-ssl cache would choose."""
    given: dict[str, Any] = {"data": tmp_path, "teacher": Path("resnet50"), "size": size}
    run = complete(PretrainConfig, **given, teacher_cache=tmp_path / "c", cache_views=7)
    own = complete(CacheConfig, **given)
    assert run.teacher.teacher_size == own.teacher.teacher_size
    assert (run.mgd.mgd_grid, run.views.crop_min) == (own.grid, own.crop_min)
    live = complete(PretrainConfig, **given)
    assert live.mgd.mgd_grid != run.mgd.mgd_grid


def test_what_is_given_counts(tmp_path: Path) -> None:
    given = ["d", "--teacher", "resnet50", "--teacher-cache", str(tmp_path / "c")]
    given += ["--cache-views", "2", "--teacher-size", "240", "--mgd-grid", "2"]
    config = parse(PretrainConfig, "pretrain.py", given)
    assert (config.teacher.teacher_size, config.mgd.mgd_grid) == (240, 2)
