"""What makes a teacher cache: images that fail once, answers that are no numbers, two at once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from image_files import class_tree
from tiny_runs import listing, write_teacher

from mgd_ssl.commands import cache
from mgd_ssl.data import open_source
from mgd_ssl.data.sources import ImageSource
from mgd_ssl.runs import cache as runs
from mgd_ssl.runs.cache import build_maker, load_teacher, store
from mgd_ssl.runs.cache_maker import Maker
from mgd_ssl.settings.cache import CacheConfig
from mgd_ssl.settings.parsing import parse
from mgd_ssl.tasks.task import Teacher
from mgd_ssl.training.devices import start_fabric

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]
IMAGES, FAILING = 20, 5


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    class_tree(root, {"cat": IMAGES})
    return root


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: Patch) -> None:
    monkeypatch.setattr(runs, "PART_IMAGES", 8)


def words(data: Path, teacher: Path, out: Path, *more: str) -> list[str]:
    made = ["--views", "2", "--size", "32", "-b", "4", *(() if "-j" in more else ("-j", "0"))]
    return [str(data), "--teacher", str(teacher), "--out", str(out), *made, *more]


def maker(data: Path, teacher: Path, out: Path, *more: str) -> Maker:
    config = parse(CacheConfig, "mgd-ssl cache", words(data, teacher, out, *more))
    config = replace(config, device=replace(config.device, precision="32"))
    network, report = load_teacher(config)
    fabric, source = start_fabric(config.device), open_source(data, "train")
    return build_maker(config, fabric, source, network, report, checksums=False)


def test_an_image_that_is_read_at_the_second_try_gets_its_own_answers(
    data: Path, teacher: Path, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    assert cache.main(words(data, teacher, tmp_path / "sound")) == 0
    made = maker(data, teacher, tmp_path / "cache")
    opened, left = type(made.source).open, [OSError("stale file handle")]

    def failing(self: ImageSource, index: int, **options: Any) -> Any:
        if index == FAILING and left:
            raise left.pop()
        return opened(self, index, **options)

    monkeypatch.setattr(runs, "say_time", lambda _: None)  # it reads images too
    monkeypatch.setattr(type(made.source), "open", failing)
    store(made, checksums=False)
    assert not left and "was read at the second try" in capsys.readouterr().err
    assert listing(tmp_path / "cache") == listing(tmp_path / "sound")


@pytest.mark.parametrize("value", [float("nan"), 7e4])
def test_answers_that_sixteen_bits_do_not_hold_are_refused(
    data: Path,
    teacher: Path,
    tmp_path: Path,
    monkeypatch: Patch,
    capsys: Capture,
    value: float,
) -> None:
    made = maker(data, teacher, tmp_path / "cache")
    forward = Teacher.forward

    def spoiled(self: Teacher, images: torch.Tensor) -> Any:
        maps, output = forward(self, images)
        return maps, torch.full_like(output, value)

    monkeypatch.setattr(Teacher, "forward", spoiled)
    with pytest.raises(ValueError, match=r"not finite or above 65,504.*--precision 32"):
        store(made, checksums=False)
    assert list((tmp_path / "cache").rglob("*.safetensors")) == []


def test_of_two_that_begin_at_once_the_second_makes_what_the_first_has_not(
    data: Path, teacher: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    out = tmp_path / "cache"
    first, second = (maker(data, teacher, out) for _ in range(2))
    store(first, checksums=False)
    before = listing(out)
    store(second, checksums=False)
    assert second.missing == [] and listing(out) == before


def test_of_two_that_begin_at_once_the_second_does_not_write_over_the_first(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cache"
    first = maker(data, teacher, out)
    second = maker(data, write_teacher(tmp_path / "other.pth.tar", width=0.125), out)
    store(first, checksums=False)
    before = listing(out)
    with pytest.raises(ValueError, match=r"another cache.*the teacher's weights are others"):
        store(second, checksums=False)
    assert listing(out) == before


def test_the_blocks_of_a_compiled_teacher_that_no_map_is_read_of_are_compiled(
    data: Path, teacher: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    assert cache.main(words(data, teacher, tmp_path / "plain")) == 0
    compiled: list[torch.nn.Module] = []

    def trace(module: torch.nn.Module, **options: object) -> None:
        compiled.append(module)
        module._compiled_call_impl = torch.compile(module._call_impl, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", trace)
    assert cache.main(words(data, teacher, tmp_path / "compiled", "--compile")) == 0
    assert compiled
    assert listing(tmp_path / "compiled") == listing(tmp_path / "plain")
