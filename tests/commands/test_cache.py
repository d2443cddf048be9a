"""A teacher is asked once; training from its answers is training with it."""

import json
import shlex
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from forked import run_on_two
from image_files import class_tree
from test_resume import differences
from tiny_runs import TRAINING, asked, listing, read_last, stop_at, write_teacher

from mgd_ssl.cache.parts import part_path
from mgd_ssl.cache.teacher_cache import TeacherCache
from mgd_ssl.commands import cache, pretrain
from mgd_ssl.data import ImageDataset, RandomCrops, open_source
from mgd_ssl.models import load_backbone, pool
from mgd_ssl.runs import cache as runs
from mgd_ssl.runs import output_folder
from mgd_ssl.runs.output_folder import alone
from mgd_ssl.settings.cache import CacheConfig
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.tasks.pretraining import Pretraining
from mgd_ssl.tasks.task import TaughtView, Teacher
from mgd_ssl.training.cached_data import StoredAnswers

Capture = pytest.CaptureFixture[str]
IMAGES, VIEWS = 40, 2
MADE = ["--views", str(VIEWS), "--size", "32", "-j", "0", "-b", "8"]
STUDENT = ["-a", "resnet18", "--width", "0.125", "--stem", "small", "--stem-stride", "2"]
RUN = [*STUDENT, *TRAINING[:2], "--epochs", "3", "--knn-every", "0", "--health-every", "0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    class_tree(root, {"cat": IMAGES // 2, "dog": IMAGES // 2})
    return root


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "PART_IMAGES", 16)


def make(data: Path, teacher: Path, out: Path, *more: str) -> int:
    return cache.main([str(data), "--teacher", str(teacher), "--out", str(out), *MADE, *more])


def train(data: Path, teacher: Path, cached: Path, out: Path, *more: str) -> int:
    words = ["--teacher", str(teacher), "--teacher-cache", str(cached), "--out", str(out)]
    return pretrain.main([str(data), *words, *RUN, *more])


def test_the_command_that_trains_from_the_cache_names_its_teacher(
    data: Path, teacher: Path, tmp_path: Path, capsys: Capture
) -> None:
    more = ["--train-folder", ".", "--teacher-arch", "resnet18", "--no-exif"]
    assert make(data, teacher, tmp_path / "a cache", *more) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "cached: " in line]
    config = parse(PretrainConfig, "pretrain.py", shlex.split(line.partition("pretrain.py")[2]))
    assert config.teacher.teacher == teacher and config.teacher.teacher_arch == "resnet18"
    assert (config.teacher_cache, config.loader.exif) == (tmp_path / "a cache", False)
    assert (config.data, config.loader.train_folder) == ((data,), ".")


def test_the_command_names_what_the_cache_does_not_tell(teacher: Path) -> None:
    def words(*more: str) -> list[str]:
        given = ["photos", "--teacher", str(teacher), *more]
        return runs.training_words(parse(CacheConfig, "mgd-ssl cache", given))

    found = words("--max-pixels", "1000", "--teacher-taps", "first=layer1", "last=layer4")
    assert found[found.index("--teacher-taps") + 1 :][:2] == ["first=layer1", "last=layer4"]
    assert found[found.index("--max-pixels") + 1] == "1000" and "--method" not in found
    found = words("--no-maps")
    assert found[found.index("--method") + 1] == "simreg"


@pytest.fixture(scope="module")
def cached(data: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cached") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "PART_IMAGES", 16)
        assert make(data, teacher, out) == 0
    return out


@pytest.fixture(scope="module")
def trained(
    data: Path, teacher: Path, cached: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[int]]:
    """A run from the cache, and how many images the teacher was shown, each time."""
    run = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        calls = asked(patch)
        assert train(data, teacher, cached, run) == 0
    return run, calls


# the answers


@pytest.mark.parametrize("method", ["mgd-plus", "mgd", "simreg", "seed"])
def test_each_step_sees_what_the_teacher_says_of_its_crops(
    tmp_path: Path, data: Path, teacher: Path, cached: Path, monkeypatch: pytest.MonkeyPatch, method
) -> None:
    network, report = load_backbone(teacher)
    seen: list[TaughtView] = []
    forward = Pretraining.forward

    def note(self: Pretraining, *views: TaughtView) -> dict[str, torch.Tensor]:
        seen.extend(views)
        assert self.teacher and isinstance(self.teacher, Teacher)
        maps, _ = self.teacher(views[0].images) if self.distiller else ([], None)
        for stored, x in zip(views[0].maps, maps, strict=True):
            live = torch.nn.functional.adaptive_avg_pool2d(x, stored.shape[-1])
            assert (stored - live).norm() < 0.05 * live.norm()
        return forward(self, *views)

    monkeypatch.setattr(Pretraining, "forward", note)
    monkeypatch.setattr(Pretraining, "free_teacher", lambda self: None)  # it is asked again here
    plain = ["--preset", "crops"]  # no colors, so that the views are the crops
    queue = ["--moco-k", "16", "--bn-splits", "1"] if method in ("mgd", "seed") else []
    more = ["--method", method, *plain, *queue]
    assert train(data, teacher, cached, tmp_path / "run", *more) == 0
    assert len(seen) == (2 if method == "mgd" else 1) * 3 * 2
    network.eval()
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (report.mean, report.std))
    with torch.no_grad():
        for view in seen:
            live = pool(network((view.images - mean) / std))
            torch.testing.assert_close(view.output, live, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("live", [True, False])
def test_the_teacher_answers_to_larger_views_of_the_same_crops(
    tmp_path: Path, data: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch, live: bool
) -> None:
    """Cut from the image at its side, which is twice the student's; the student sees them small."""
    students: list[torch.Tensor] = []
    answers: list[TaughtView] = []
    taught = Pretraining.taught

    def note(self: Pretraining, view: TaughtView) -> TaughtView:
        found = taught(self, view)
        if self.training:
            answers.append(found)
            students.append(self.normalize[0](found.images))  # type: ignore[index]
        return found

    monkeypatch.setattr(Pretraining, "taught", note)
    more = ["--method", "simreg", "--teacher-size", "64", "--epochs", "1"]
    if live:
        words = ["--teacher", str(teacher), "--out", str(tmp_path / "run"), "--size", "32"]
        assert pretrain.main([str(data), *words, *RUN, *more]) == 0
    else:
        assert make(data, teacher, tmp_path / "cache", "--teacher-size", "64") == 0
        assert train(data, teacher, tmp_path / "cache", tmp_path / "run", *more) == 0
    network, report = load_backbone(teacher)
    crops = RandomCrops(64, 1, (0.5, 1.0), 0, 0.5)
    batch = ImageDataset(open_source(data, "train"), crops).__getitems__(range(IMAGES))
    views = batch.images[:, 0] / 255
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (report.mean, report.std))
    with torch.no_grad():
        expected = pool(network.eval()((views - mean) / std))
    for view, small in zip(answers, students, strict=True):
        assert small.shape[-2:] == (32, 32)
        distance = torch.cdist(view.output, expected)
        assert distance.min(dim=1).values.max() < 0.002 * expected.norm(dim=1).mean()
        same = torch.nn.functional.interpolate(
            views[distance.argmin(dim=1)], (32, 32), mode="bilinear", antialias=True
        )
        assert (small - same).abs().mean() < 0.01


def test_a_teacher_that_is_cached_is_not_run_in_a_step(trained: tuple[Path, list[int]]) -> None:
    assert sum(trained[1]) <= 8 + 16  # the look at its features, and the comparison with the cache


def test_a_held_out_share_leaves_each_image_its_own_answers(
    tmp_path: Path, data: Path, teacher: Path, cached: Path
) -> None:
    assert train(data, teacher, cached, tmp_path / "run", "--health-every", "1") == 0


@pytest.mark.parametrize("method", ["mgd-plus", "simreg"])
def test_a_cached_run_in_lower_precision_reads_the_same_answers(
    tmp_path: Path, data: Path, teacher: Path, cached: Path, method: str
) -> None:
    more = ["--precision", "bf16", "-j", "0", "--epochs", "1", "--method", method]
    assert train(data, teacher, cached, tmp_path / "run", *more) == 0


def test_the_replacement_of_a_damaged_image_comes_with_its_own_answers(
    tmp_path: Path, teacher: Path
) -> None:
    class_tree(tmp_path / "data", {"cat": IMAGES})
    source = open_source(tmp_path / "data", "train")
    Path(source.describe(4)).write_bytes(b"damaged")
    out = tmp_path / "cache"
    assert make(tmp_path / "data", teacher, out, "--bad-images", "0.1") == 0
    store = StoredAnswers.of(TeacherCache.open(out))
    some = source.select(np.array([1, 4, 9]))  # the next of the whole is not among them
    batch = ImageDataset(some, store.views, True, store).__getitems__([1, 2])
    assert batch.indices.tolist() == [2, 2] and batch.failed.tolist() == [1, -1]
    assert batch.stored is not None and torch.equal(batch.images[0], batch.images[1])
    for column in batch.stored.values():
        assert torch.equal(column[0], column[1])


def test_the_cache_sets_the_views_and_the_grid(trained: tuple[Path, list[int]]) -> None:
    config = read_last(trained[0])["config"]
    assert (config["loader"]["size"], config["mgd"]["mgd_grid"]) == (32, 4)
    assert (config["views"]["crop_min"], config["views"]["crop_max"]) == (0.5, 1.0)


# stopped and begun again


def test_a_cached_run_that_was_stopped_resumes_to_the_same_bits(
    tmp_path: Path,
    data: Path,
    teacher: Path,
    cached: Path,
    trained: tuple[Path, list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        stop_at(4, patch)
        assert train(data, teacher, cached, tmp_path / "run", "--save-every", "1") == 143
    assert train(data, teacher, cached, tmp_path / "run", "--save-every", "1", "--resume") == 0
    ends = [read_last(run) for run in (tmp_path / "run", trained[0])]
    for content in ends:
        content.pop("config")
    assert differences(*ends) == []


def test_a_stopped_making_goes_on_to_the_same_bytes(
    tmp_path: Path, data: Path, teacher: Path, cached: Path, capsys: Capture
) -> None:
    out = tmp_path / "cache"
    assert make(data, teacher, out) == 0
    part_path(out, 0, 1).unlink()
    torn = part_path(out, 1, 2)
    torn.write_bytes(torn.read_bytes()[:100])
    (torn.parent / ".000001.safetensors.1.tmp").write_bytes(b"torn")
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}
    assert make(data, teacher, out) == 0
    assert listing(out) == listing(cached)
    again = {p for p in out.rglob("*.safetensors") if p.stat().st_mtime_ns != times.get(p)}
    assert again == {part_path(out, 0, 1), torn}
    capsys.readouterr()


def test_a_second_command_waits_for_the_first_and_leaves_what_it_is_writing(
    tmp_path: Path,
    data: Path,
    teacher: Path,
    cached: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = Path(shutil.copytree(cached, tmp_path / "cache"))
    part_path(out, 0, 0).unlink()
    writing = part_path(out, 0, 0).with_name(".000000.safetensors.1.tmp")
    writing.touch()
    waits, seen = threading.Event(), list[bool]()

    class Lock(FileLock):
        def acquire(self, *options: Any, **named: Any) -> Any:
            if not named:
                seen.append(writing.exists())
                waits.set()
            return super().acquire(*options, **named)

    def first(at_work: threading.Event) -> None:
        with alone(out, "stores answers"):
            at_work.set()
            waits.wait()

    at_work = threading.Event()
    other = threading.Thread(target=first, args=[at_work])
    other.start()
    at_work.wait()
    monkeypatch.setattr(output_folder, "FileLock", Lock)
    assert make(data, teacher, out) == 0
    other.join()
    assert "this one waits until it ends" in capsys.readouterr().err
    assert seen == [True] and not writing.exists()  # a killed one's is removed
    assert listing(out) == listing(cached)


def test_more_views_are_added_to_those_that_are_there(
    tmp_path: Path, data: Path, teacher: Path, cached: Path
) -> None:
    out = tmp_path / "cache"
    assert make(data, teacher, out, "--views", "1") == 0
    first = listing(out / "view_0000")
    assert make(data, teacher, out) == 0
    assert listing(out) == listing(cached) and listing(out / "view_0000") == first
    assert make(data, teacher, out, "--views", "1") == 0  # what is there stays
    assert listing(out) == listing(cached)


def test_two_processes_write_the_same_bytes(
    tmp_path: Path, data: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # processes that start anew cut parts of the usual length
    outs = [tmp_path / "one", tmp_path / "two"]
    assert make(data, teacher, outs[0]) == 0
    words = [str(data), "--teacher", str(teacher), "--out", str(outs[1]), *MADE]
    run_on_two("cache", [*words, "--accelerator", "cpu"])
    assert listing(outs[0]) == listing(outs[1])


def test_a_full_disk_leaves_what_is_whole(
    tmp_path: Path, data: Path, teacher: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, written = tmp_path / "cache", iter(range(100))
    from mgd_ssl.runs import output_folder

    original = output_folder.write_part

    def write(*args: object) -> None:
        if next(written) == 3:
            raise OSError(28, "No space left on device")
        original(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(output_folder, "write_part", write)
        assert make(data, teacher, out) == 1
    said = capsys.readouterr().err
    assert "No space left" in said and "3 parts are whole and stay" in said
    assert len(list(out.rglob("*.safetensors"))) == 3
    assert make(data, teacher, out) == 0


# refusals


def refused(capsys: Capture, status: int) -> str:
    assert status == 1
    return capsys.readouterr().err.splitlines()[-1]


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, data: Path, teacher: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "free_bytes", lambda _: 10_000)
    said = refused(capsys, make(data, teacher, tmp_path / "cache"))
    assert "0.01 MB of the disk are free; expected more" in said
    assert not (tmp_path / "cache").exists()


def test_a_folder_of_something_else_is_refused(
    tmp_path: Path, data: Path, teacher: Path, cached: Path, capsys: Capture
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert "is not empty" in refused(capsys, make(data, teacher, tmp_path))
    before = listing(cached)
    said = refused(capsys, make(data, teacher, cached, "--crop-min", "0.3", "--grid", "2"))
    assert "another cache: --crop-min: 0.5 in the cache, 0.3 here; --grid: 4 in the cache" in said
    assert listing(cached) == before


def test_a_cache_of_another_teacher_is_refused(
    tmp_path: Path, data: Path, cached: Path, capsys: Capture
) -> None:
    other = write_teacher(tmp_path / "other.pth.tar", width=0.5)
    said = refused(capsys, train(data, other, cached, tmp_path / "run"))
    assert "does not belong to this run" in said and "the teacher's weights are others" in said
    assert not (tmp_path / "run").exists()


def test_a_cache_of_other_images_is_refused(
    tmp_path: Path, teacher: Path, cached: Path, capsys: Capture
) -> None:
    class_tree(tmp_path / "data", {"cat": IMAGES // 2, "cow": IMAGES // 2})
    said = refused(capsys, train(tmp_path / "data", teacher, cached, tmp_path / "run"))
    assert "the images are others, by name or size" in said
    class_tree(tmp_path / "fewer", {"cat": IMAGES})
    (tmp_path / "fewer" / "cat" / "0.png").unlink()
    said = refused(capsys, train(tmp_path / "fewer", teacher, cached, tmp_path / "run"))
    assert "number of images: 40 in the cache, 39 here" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--crop-min", "0.2"], "--crop-min: 0.5 in the cache, 0.2 here"),
        (["--flip-p", "0"], "--flip-p: 0.5 in the cache, 0.0 here"),
        (["--mgd-grid", "2"], "--mgd-grid: 4 in the cache, 2 here"),
        (["--size", "64"], "--size: 32 in the cache, 64 here"),
        (["--no-exif"], "--exif: True in the cache, False here"),
        (["--teacher-size", "64"], "--teacher-size: 0 in the cache, 64 here"),
    ],
)
def test_other_views_than_the_cached_are_refused(
    tmp_path: Path, data: Path, teacher: Path, cached: Path, capsys: Capture, words, said
) -> None:
    assert said in refused(capsys, train(data, teacher, cached, tmp_path / "run", *words))


def test_a_cache_without_maps_serves_methods_that_match_none(
    tmp_path: Path, data: Path, teacher: Path, capsys: Capture
) -> None:
    out = tmp_path / "cache"
    assert make(data, teacher, out, "--no-maps") == 0
    said = capsys.readouterr().err
    assert "it holds no maps to match" in refused(
        capsys, train(data, teacher, out, tmp_path / "run")
    )
    (line,) = [line for line in said.splitlines() if "cached: " in line]
    words = shlex.split(line.partition("pretrain.py")[2])
    assert pretrain.main([*words, *RUN, "--out", str(tmp_path / "run")]) == 0


def test_a_method_of_two_views_needs_two_that_are_stored(
    tmp_path: Path, data: Path, teacher: Path, capsys: Capture
) -> None:
    out = tmp_path / "cache"
    assert make(data, teacher, out, "--views", "1") == 0
    words = ("--method", "mgd", "--moco-k", "64")
    message = refused(capsys, train(data, teacher, out, tmp_path / "run", *words))
    assert "got 1 view of each image" in message and "expected at least the 2" in message


def test_a_cache_that_is_cut_short_is_refused_with_what_completes_it(
    tmp_path: Path, data: Path, teacher: Path, capsys: Capture
) -> None:
    out = tmp_path / "cache"
    assert make(data, teacher, out) == 0
    part_path(out, 1, 0).unlink()
    said = refused(capsys, train(data, teacher, out, tmp_path / "run"))
    assert "1 of 6 parts" in said and "the first of view 1, part 0" in said
    assert "repeat the command that made the cache" in said


def test_a_changed_part_ends_a_run_as_it_is_first_read_and_costs_no_bit(
    tmp_path: Path,
    data: Path,
    teacher: Path,
    cached: Path,
    trained: tuple[Path, list[int]],
    capsys: Capture,
) -> None:
    out = shutil.copytree(cached, tmp_path / "cache")
    changed = part_path(out, 1, 0)
    changed.write_bytes(changed.read_bytes()[:-1] + b"\x55")
    said = refused(capsys, train(data, teacher, out, tmp_path / "run"))
    assert f"{changed} is not as it was written; delete it and repeat" in said
    assert read_last(tmp_path / "run")["progress"]["epoch"] == 1
    again = refused(capsys, train(data, teacher, out, tmp_path / "run", "--resume"))
    assert again == said
    assert make(data, teacher, out) == 0 and listing(out) == listing(cached)
    assert train(data, teacher, out, tmp_path / "run", "--resume") == 0
    ends = [read_last(run)["state_dict"] for run in (tmp_path / "run", trained[0])]
    assert differences(*ends) == []


def test_answers_that_the_teacher_does_not_give_are_refused(
    tmp_path: Path, data: Path, teacher: Path, capsys: Capture
) -> None:
    out = tmp_path / "cache"
    assert make(data, teacher, out) == 0
    opened = TeacherCache.open(out)
    from mgd_ssl.cache.parts import write_part

    columns = opened.read(0, np.arange(16))
    columns["output"] = columns["output"].flip(1).contiguous()
    write_part(part_path(out, 0, 0), columns, opened.manifest.identity)
    said = refused(capsys, train(data, teacher, out, tmp_path / "run"))
    assert "between stored and live output, expected at least 0.999" in said


def test_a_run_does_not_resume_with_another_cache_or_without(
    tmp_path: Path,
    data: Path,
    teacher: Path,
    trained: tuple[Path, list[int]],
    capsys: Capture,
) -> None:
    shutil.copytree(trained[0], tmp_path / "run")
    more = tmp_path / "cache"
    assert make(data, teacher, more, "--views", "3") == 0
    said = refused(capsys, train(data, teacher, more, tmp_path / "run", "--resume"))
    assert "--cache-views: 2 in the checkpoint, 3 now" in said
    assert make(data, teacher, tmp_path / "other", "--crop-min", "0.3") == 0
    other = ["--crop-min", "0.3", "--resume"]
    said = refused(capsys, train(data, teacher, tmp_path / "other", tmp_path / "run", *other))
    assert "the teacher cache is another" in said
    assert train(data, teacher, more, tmp_path / "run", "--resume", "--cache-views", "2") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--teacher-cache", "nowhere"], "which holds no cache.json"),
        (["--method", "moco"], "teacher_cache: got --teacher-cache"),
    ],
)
def test_a_cache_that_is_none_or_has_no_effect_is_refused(
    tmp_path: Path, data: Path, cached: Path, capsys: Capture, words: list[str], said: str
) -> None:
    given = ["--teacher-cache", str(cached), *words, "--out", str(tmp_path / "run")]
    assert said in refused(capsys, pretrain.main([str(data), *given]))


def test_a_cache_needs_a_teacher(tmp_path: Path, data: Path, capsys: Capture) -> None:
    status = cache.main([str(data), "--out", str(tmp_path / "cache")])
    assert "teacher: got none, expected --teacher" in refused(capsys, status)


def test_the_manifest_says_whose_answers_these_are(cached: Path, data: Path) -> None:
    content = json.loads((cached / "cache.json").read_text())
    assert content["images"] == len(open_source(data, "train")) and content["views"] == VIEWS
    assert content["teacher"]["source"] == "teacher.pth.tar" and content["teacher"]["sha256"]
