"""The student takes stem and size of its teacher's file; a run's directory is its checkpoint."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import arguments

from mgd_ssl.commands import export, knn_eval, pretrain
from mgd_ssl.detection.checkpoints import is_detector, load_body, load_detector
from mgd_ssl.detection.retinanet import DetectorSpec, create_detector
from mgd_ssl.models import create_backbone, create_classifier, load_backbone, load_classifier
from mgd_ssl.settings.cache import CacheConfig
from mgd_ssl.settings.classify import ClassifyConfig
from mgd_ssl.settings.options import NetworkOptions
from mgd_ssl.settings.parsing import complete
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.training.same_run import located

SMALL = {"stem": "small", "stem_stride": 2}
MOCO_RUN = ("--epochs", "1", "--limit", "16")


def write_run(path: Path, size: int | None = 64, **spec: Any) -> Path:
    """A directory as a run leaves it; what its checkpoint says of its network."""
    network = create_backbone("resnet18", width=0.125, **spec)
    content: dict[str, Any] = {"state_dict": network.state_dict(), "size": size}
    if spec.get("stem_stride"):
        content["backbone"] = network.spec.to_dict()  # type: ignore[operator,union-attr]
    (path / "checkpoints").mkdir(parents=True)
    torch.save(content, path / "checkpoints" / "last.pt")
    return path


def seen(config: Any) -> tuple[Any, ...]:
    network = config.network
    return config.loader.size, network.stem, network.stem_stride


def told(run: Path | None, data: Path | None, **said: Any) -> Any:
    """What pretrain.py and classify make of the same options: the same."""
    given = {"teacher": run, **({"data": data} if data else {}), **said}
    first, second = complete(PretrainConfig, **given), complete(ClassifyConfig, **given)
    assert seen(first) == seen(second)
    assert located(first).teacher.teacher == located(second).teacher.teacher
    return first


@pytest.mark.parametrize("embedded", [True, False])
def test_stem_and_size_are_the_teachers_unless_they_are_given(
    tmp_path: Path, embedded: bool
) -> None:
    run, data = write_run(tmp_path / "run", **SMALL), None if embedded else tmp_path
    assert seen(told(run, data)) == (64, "small", 2)
    assert seen(told(run, data, size=96)) == (96, "small", 2)
    assert seen(told(run, data, stem="imagenet"))[:2] == (64, "imagenet")
    assert seen(told(run, data, stem_stride=1)) == (64, "small", 1)


def test_the_stem_is_read_off_the_shapes_where_the_file_does_not_say_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", None, stem="small")
    assert seen(told(run, tmp_path)) == (224, "small", 1)
    run = write_run(tmp_path / "b", None)
    assert seen(told(run, tmp_path)) == (224, "imagenet", 1)
    assert seen(told(run, None))[:2] == (32, "small")  # as for any images of this size


@pytest.mark.parametrize(
    ("said", "stem"),
    [
        ({"size": 47}, ("small", 2)),
        ({"size": 48}, ("imagenet", 1)),
        ({"size": 32, "arch": "mobilenetv3_small_050"}, ("imagenet", 1)),  # no rule makes it small
        ({"size": 32, "stem": "imagenet"}, ("imagenet", 2)),
        ({"size": 32, "stem_stride": 1}, ("small", 1)),
    ],
)
def test_small_images_bring_a_small_stem(
    tmp_path: Path, said: dict[str, Any], stem: tuple[str, int]
) -> None:
    assert seen(told(write_run(tmp_path / "run", None), tmp_path, **said))[1:] == stem


def test_a_teacher_that_shows_no_stem_and_a_student_that_has_one_keep_the_defaults(
    tmp_path: Path,
) -> None:
    torch.save(create_backbone("mobilenet_v2", width=0.25).state_dict(), tmp_path / "m.pt")
    assert seen(told(tmp_path / "m.pt", None)) == (32, "small", 2)
    run = write_run(tmp_path / "run", **SMALL)
    assert seen(told(run, tmp_path, arch="mobilenetv1_100")) == (64, "imagenet", 1)


@pytest.mark.parametrize(
    ("own", "stem", "said", "live", "stored"),
    [
        (64, "small", {"size": 24}, 36, 64),  # 1.5 times the student's; at most its own
        (64, "small", {"size": 48}, 64, 64),
        (64, "small", {"size": 64}, 0, 0),
        (64, "small", {"size": 96}, 0, 0),
        (64, "small", {}, 0, 0),
        (None, "imagenet", {"size": 32}, 48, 128),  # stored ones have 128 or more
        (None, "imagenet", {"size": 64}, 96, 128),
        (None, "imagenet", {"size": 80}, 120, 160),  # and twice the student's
        (None, "imagenet", {"size": 160}, 224, 224),  # what published networks have
        (None, "imagenet", {}, 0, 0),
        (None, "small", {"size": 32}, 0, 0),  # its own is not known, and small
        (None, "imagenet", {"size": 64, "teacher_size": 100}, 100, 100),
        (None, "imagenet", {"size": 64, "teacher_size": 0}, 0, 0),
    ],
)
def test_a_teacher_sees_larger_views_where_it_was_trained_on_larger_images(
    tmp_path: Path, own: int | None, stem: str, said: dict[str, Any], live: int, stored: int
) -> None:
    run = write_run(tmp_path / "run", own, stem=stem)
    given: dict[str, Any] = {"teacher": run, "data": tmp_path, **said}
    configs: list[Any] = [complete(kind, **given) for kind in (PretrainConfig, ClassifyConfig)]
    if "size" in said:
        start = write_run(tmp_path / "start", 160)
        configs.append(complete(PretrainConfig, student_weights=start, **given))
    assert [config.teacher.teacher_size for config in configs] == [live] * len(configs)
    assert complete(CacheConfig, **given).teacher.teacher_size == stored


def test_weights_by_name_see_larger_views_and_no_teacher_sees_none(
    tmp_path: Path,
) -> None:
    named = complete(PretrainConfig, teacher=Path("resnet50"), data=tmp_path, size=64)
    dino = Path("timm/vit_small_patch14_dinov2.lvd142m")
    for size, whole in ((96, 140), (98, 140), (112, 168), (150, 224), (224, 0)):
        tokens = complete(PretrainConfig, teacher=dino, data=tmp_path, size=size)
        assert tokens.teacher.teacher_size == whole
    alone = complete(PretrainConfig, data=tmp_path, size=64)
    assert (named.teacher.teacher_size, alone.teacher.teacher_size) == (96, 0)


def test_a_fine_tuned_network_sees_the_size_of_its_own_file(tmp_path: Path) -> None:
    start, teacher = write_run(tmp_path / "s", 40), write_run(tmp_path / "t", 64, **SMALL)
    found = complete(ClassifyConfig, student_weights=start, teacher=teacher)
    assert found.loader.size == 40 and found.network == NetworkOptions()
    assert located(found).student_weights == start / "checkpoints" / "last.pt"
    measured = complete(ClassifyConfig, student_weights=start, teacher=teacher, evaluate=True)
    assert measured.loader.size == 0  # each network is then measured at the size of its file


def test_what_student_and_teacher_see_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mgd_ssl.training.logging import logger
    from mgd_ssl.training.plan import say_inputs

    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    monkeypatch.setattr(logger, "propagate", False)
    caplog.set_level("INFO", logger.name)
    network, report = load_backbone(write_run(tmp_path / "run", **SMALL))
    say_inputs(64, 64, network.spec, report)  # type: ignore[arg-type]
    say_inputs(32, 64, network.spec, report)  # type: ignore[arg-type]
    say_inputs(64, 64, network.spec, replace(report, size=None))  # type: ignore[arg-type]
    same, other, larger, unknown = caplog.messages
    assert larger == "the teacher sees each view at 64 pixels (--teacher-size)"
    assert same == "student: images of 64 pixels, small stem of stride 2, as the teacher"
    assert unknown.endswith("small stem of stride 2; the teacher's file records no size")
    assert "32 pixels" in other and "the teacher's file: images of 64 pixels" in other


def test_a_runs_directory_stands_for_its_checkpoint_everywhere(tmp_path: Path) -> None:
    run, last = write_run(tmp_path / "run"), tmp_path / "run" / "checkpoints" / "last.pt"
    for path in (run, last.parent):
        assert load_backbone(path)[1].path == last
    config = complete(PretrainConfig, data=tmp_path, teacher=run)
    assert located(config).teacher.teacher == last
    given = ["--limit", "8", "--limit-val", "8", "--knn-k", "1", "--size", "32"]
    assert knn_eval.main([str(run), *given]) == 0
    assert (last.parent / "last.pt.knn.json").exists()
    assert export.main([str(run), "--to", "detectron2"]) == 0
    assert (last.parent / "last.detectron2.pkl").exists()
    torch.save(create_classifier(3, width=0.125).state_dict(), last)
    assert load_classifier(run)[1].classes == 3


def test_a_directory_of_a_detector_too(tmp_path: Path) -> None:
    spec = DetectorSpec(arch="resnet18", width=0.125, category_ids=(1, 2), fpn_channels=8)
    detector, folder = create_detector(spec), tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    content = {"state_dict": detector.state_dict(), "detector": spec.to_dict()}
    torch.save(content, folder / "last.pt")
    assert is_detector(tmp_path / "run")
    assert load_detector(tmp_path / "run")[1].path == folder / "last.pt"
    body = write_run(tmp_path / "body")
    assert load_body(detector, body).path == body / "checkpoints" / "last.pt"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda c: c.pop("optimizer"), "has no entry 'optimizer', expected a mapping"),
        (lambda c: c.update(progress={}), "progress.epoch: got nothing, expected a whole"),
        (lambda c: c.update(config=3), "config: got '3' (int), expected a mapping"),
        (
            lambda c: c["optimizer"]["state"][0].update(momentum_buffer=torch.ones(3)),
            "momentum_buffer: got '(3,)' (tuple), expected the parameter's shape (8, 3, 3, 3)",
        ),
        (
            lambda c: c["state_dict"].pop("module.encoder_q.bn1.weight"),
            "state_dict: 1 entries are not those of this run, encoder_q.bn1.weight: got nothing",
        ),
        (
            lambda c: c["state_dict"]["module.queue"].fill_(float("nan")),
            "queue: got 8192 of 8192 values that are NaN",
        ),
    ],
)
def test_a_spoiled_checkpoint_is_not_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], moco_run: Path, spoil: Any, said: str
) -> None:
    last = moco_run / "checkpoints" / "last.pt"
    whole = last.read_bytes()
    content = torch.load(last, weights_only=True)
    spoil(content)
    torch.save(content, last)
    try:
        assert pretrain.main(arguments(moco_run, None, *MOCO_RUN, "--resume")) == 1
    finally:
        last.write_bytes(whole)
    message = " ".join(capsys.readouterr().err.split())
    assert message.count("error: ") == 1 and said in message and str(last) in message
    assert "Traceback" not in message


@pytest.fixture(scope="module")
def moco_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("moco") / "run"
    assert pretrain.main(arguments(out, None, *MOCO_RUN)) == 0
    return out


def test_a_checkpoint_of_before_is_gone_on_with(tmp_path: Path, teacher: Path) -> None:
    """Students that no momentum encoder follows were backbone.* and objective.* once."""
    argv = arguments(tmp_path / "run", teacher, "--method", "simreg", "--epochs", "1")
    assert pretrain.main(argv) == 0
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    content = torch.load(last, weights_only=True)
    state, older = content["state_dict"], dict[str, Any]()
    for key, value in state.items():
        name = key.removeprefix("module.").replace("encoder_q.", "backbone.")
        older[name] = value
    assert {name.split(".")[0] for name in older} == {"backbone", "objective"}
    torch.save(content | {"state_dict": older}, last)
    assert pretrain.main([*argv, "--resume"]) == 0
    assert all(torch.equal(v, older[k]) for k, v in _read(last, older).items())


def _read(last: Path, older: dict[str, Any]) -> dict[str, Any]:
    loaded = load_backbone(last)[0].state_dict()
    return {f"backbone.{key}": value for key, value in loaded.items() if f"backbone.{key}" in older}
