"""Detection end to end: base training, distillation, transfer, unlabeled images, evaluation."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from detect_runs import DETECTOR, SAMPLE, TRAINING, broken, losses, options, said
from forked import killed_in_step, run_on_two
from safetensors.torch import load_file
from test_resume import differences
from tiny_runs import read_last, read_rows

from mgd_ssl.commands import detect, export
from mgd_ssl.detection.building import freeze_untrained
from mgd_ssl.detection.checkpoints import load_detector
from mgd_ssl.detection.reader import body_reader
from mgd_ssl.detection.retinanet import DetectorSpec, create_detector
from mgd_ssl.detection.settings import DetectConfig
from mgd_ssl.models import create_backbone, load_backbone
from mgd_ssl.models.provenance import sha256_of
from mgd_ssl.reporting.origins import read_provenance
from mgd_ssl.settings.parsing import complete
from mgd_ssl.stages import Stage
from mgd_ssl.training.run_files import foreign_entries

STAGES = {f"matching/c{i}" for i in range(2, 6)}
OWN = {"classification", "bbox_regression"}


def test_base_training_leaves_a_detector_and_its_backbone(base: Path) -> None:
    assert set(losses(base)) == OWN
    detector, report = load_detector(base / "checkpoints" / "last.pt")
    assert (report.layout, report.missing, report.unexpected) == ("detect", [], [])
    network, _ = load_backbone(base / "student.safetensors")
    from_run, _ = load_backbone(base / "checkpoints" / "last.pt")
    body = detector.backbone.body.state_dict()
    assert all(torch.equal(v, body[k]) for k, v in network.state_dict().items())
    assert all(torch.equal(v, body[k]) for k, v in from_run.state_dict().items())


def test_figures_are_cocos_and_the_teacher_is_worth_what_its_run_said(
    base: Path, distilled: Path, teacher: str, tmp_path: Path
) -> None:
    last = str(distilled / "checkpoints" / "last.pt")
    given = ["--evaluate", "--student-weights", last, "--teacher", teacher, "-b", "4", "-j", "0"]
    assert detect.main([str(SAMPLE), *given, "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "ap.json").read_text())["rows"]
    for row, run in zip(rows, (distilled, base), strict=True):
        figures = {k.removeprefix("val_"): v for k, v in read_rows(run)[-1].items() if "AP" in k}
        assert row.pop("sha256") == sha256_of(run / "checkpoints" / "last.pt")
        assert {k: v for k, v in row.items() if k != "network"} == figures
        assert set(figures) >= {"AP", "AP50", "AP75"}


def test_figures_stand_beside_each_detector_where_no_directory_is_named(
    teacher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("a.pt", "b.pt"):
        weights = str(shutil.copy(teacher, tmp_path / name))
        argv = [str(SAMPLE), "--evaluate", "--student-weights", weights, "-j", "0"]
        assert detect.main(argv) == 0
    files = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    named = {name: Path(content["checkpoint"]).name for name, content in files.items()}
    assert named == {"a.pt.ap.json": "a.pt", "b.pt.ap.json": "b.pt"}
    assert not list((tmp_path / "work").iterdir())


def test_figures_of_other_settings_stand_beside_the_first(
    teacher: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = str(shutil.copy(teacher, tmp_path / "a.pt"))
    given = [str(SAMPLE), "--evaluate", "--student-weights", weights, "-j", "0"]
    for more in ([], ["--min-size", "48"], ["--no-exif"], ["-b", "1"], []):
        assert detect.main([*given, *more]) == 0
    names = [f"a.pt.ap{n}.json" for n in ("", "-2", "-3", "-4")]
    assert {path.name for path in tmp_path.glob("*.json")} == {*names}
    found = [json.loads((tmp_path / name).read_text()) for name in names]
    assert [content["min_size"] for content in found] == [64, 48, 64, 64]
    assert [content["exif"] for content in found] == [True, True, False, True]
    assert [content["batch_size"] for content in found] == [8, 8, 8, 1]
    assert (found[0]["max_size"], found[0]["network"]["width"]) == (96, 0.25)
    out = ["--out", str(tmp_path / "out")]
    assert detect.main([*given, *out]) == 0
    message = said([*given, *out, "--max-size", "64"], capsys)
    assert "holds a result of another measurement (max_size 96, now 64)" in message


def test_every_stage_begins_at_the_same_loss(distilled: Path) -> None:
    log = (distilled / "train.log").read_text()
    first = next(line for line in log.splitlines() if "epoch 1/2 step 1/3" in line).split()
    begun = [float(first[first.index(f"loss/{stage}") + 1]) for stage in STAGES]
    assert all(0.02 < loss < 0.04 for loss in begun)


def test_the_matching_is_solved_by_steps(distilled: Path) -> None:
    names = sorted(p.name for p in (distilled / "matching").iterdir())
    assert names == ["epoch_0001.npz", "epoch_0002_step_000002.npz"]  # steps 0 and 4 of the run
    assert foreign_entries(distilled) == []  # --overwrite knows every file


@pytest.mark.parametrize("step", [3, 6])
def test_a_killed_run_resumes_to_the_same_bits(
    tmp_path: Path, teacher: str, distilled: Path, step: int
) -> None:
    given = options(tmp_path / "run", "--teacher", teacher, "--mgd-update-freq", "4")
    given += ["--save-every", "1"]
    killed_in_step(step, "detect", given)
    assert detect.main([*given, "--resume"]) == 0
    left, right = read_last(tmp_path / "run"), read_last(distilled)
    for content in (left, right):
        content.pop("config")
    assert len(right["state_dict"]) > 140 and right["distiller"]
    assert differences(left, right) == []


def test_a_distilled_detector_and_its_card_name_the_teacher(distilled: Path, teacher: str) -> None:
    last, digest = distilled / "checkpoints" / "last.pt", sha256_of(Path(teacher))
    said = read_last(distilled)["provenance"]["teacher"]
    assert (said["source"], said["sha256"]) == ("last.pt", digest)
    out = distilled.parent / "detector.pkl"
    assert export.main([str(last), "--to", "detectron2", "--out", str(out)]) == 0
    card = out.with_name(f"{out.name}.md").read_text()
    assert "- Teacher: `last.pt`, architecture `resnet18`; SHA-256 of `last.pt` " in card
    assert digest["last.pt"] in card and f"- Data: `{SAMPLE.name}`" in card
    plain = json.loads(json.dumps(said))
    assert read_provenance(distilled) == {"teacher": plain}  # of the backbone alone

    side = "RGB images of any size; the shorter side becomes 64 pixels, the longer one 96 at most"
    assert f"- Input: {side}." in card and "Image side in training" not in card
    assert "`mgd-ssl detect DATA --evaluate` measures this network" in card


def test_the_last_lines_of_a_run_load_and_measure_its_detector(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(base, tmp_path / "run")
    given = options(out, "--width", "0.25", "--val-every", "2")
    assert detect.main([*given, "--resume"]) == 0
    captured = capsys.readouterr()
    assert f"done; the detector is {out / 'checkpoints/best.pt'}; its backbone" in captured.err
    names: dict[str, Any] = {}
    exec(captured.out.partition("Load it:\n")[2], names)
    state = torch.load(out / "checkpoints/best.pt", weights_only=True)["state_dict"]
    assert all(torch.equal(v, state[k]) for k, v in names["detector"].state_dict().items())
    words = captured.out.partition("Measure the detector:\n")[2].split("\n")[0].split()
    assert words[:2] == ["mgd-ssl", "detect"] and detect.main([*words[2:], "-j", "0"]) == 0


def test_images_without_boxes_train_the_backbone_alone(tmp_path: Path, teacher: str) -> None:
    shutil.copytree(SAMPLE / "train", tmp_path / "images")
    argv = options(tmp_path / "run", "--teacher", teacher, "--unlabeled", "--epochs", "1")
    assert detect.main([str(tmp_path / "images"), *argv[1:]]) == 0
    assert set(losses(tmp_path / "run")) == STAGES
    state = read_last(tmp_path / "run")["state_dict"]
    assert state["head.classification_head.cls_logits.bias"].unique().numel() == 1  # as it began
    assert len(load_file(tmp_path / "run" / "student.safetensors")) == 120


@pytest.mark.parametrize(
    ("levels", "least", "trained"),
    [
        (("c2", "c3"), 0, {"conv1", "bn1", "layer1", "layer2"}),
        (("p3",), 3, {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}),
    ],
)
def test_what_no_matched_map_depends_on_is_not_trained(
    levels: tuple[str, ...], least: int, trained: set[str]
) -> None:
    spec = DetectorSpec("resnet18", 0.125, category_ids=(1,), fpn_channels=32, head_convs=1)
    student = create_detector(spec)
    stages = [Stage(i, level, 8, 8) for i, level in enumerate(levels)]
    freeze_untrained(student, body_reader(student, levels), stages)
    left = [name for name, p in student.named_parameters() if p.requires_grad]
    body = "backbone.body."
    assert {n.removeprefix(body).split(".")[0] for n in left if n.startswith(body)} == trained
    rest = {n.rpartition(".")[0] for n in left if not n.startswith(body)}
    lateral = [f"backbone.fpn.inner_blocks.{i}.0" for i in range(least)]
    assert rest == {*lateral, *(["backbone.fpn.layer_blocks.0.0"] if least else [])}


def test_the_teachers_boxes_stand_for_missing_ones(tmp_path: Path, teacher: str) -> None:
    shutil.copytree(SAMPLE / "train", tmp_path / "images")
    argv = options(tmp_path / "run", "--teacher", teacher, "--unlabeled", "--epochs", "1")
    argv += ["--teacher-boxes", "0.01", "--precision", "bf16"]
    assert detect.main([str(tmp_path / "images"), *argv[1:]]) == 0
    assert set(losses(tmp_path / "run")) == STAGES | OWN
    assert (tmp_path / "run" / "checkpoints" / "best.pt").exists()  # nothing was measured


def test_a_teacher_of_other_categories_gives_no_boxes(
    tmp_path: Path, teacher: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def renumber(content: Any) -> None:
        for category in content["categories"]:
            category["id"] += 1000
        for annotation in content["annotations"]:
            annotation["category_id"] += 1000

    data = broken(tmp_path / "data", renumber)
    val = data / "annotations" / "instances_val.json"
    content = json.loads(val.read_text())
    renumber(content)
    val.write_text(json.dumps(content))
    argv = options(tmp_path / "run", "--teacher", teacher, "--teacher-boxes", "0.1")
    for more in ([], ["--unlabeled"]):  # average precision compares the categories of val
        assert "expected some ids in both" in said([str(data), *argv[1:], *more], capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("levels", [["c4", "c5", "p3", "p7"], ["p4"]])
def test_levels_of_the_pyramid_can_be_matched(
    tmp_path: Path, teacher: str, levels: list[str]
) -> None:
    argv = options(tmp_path / "run", "--teacher", teacher, "--epochs", "1", "--levels", *levels)
    assert detect.main(argv) == 0
    assert set(losses(tmp_path / "run")) == OWN | {f"matching/{level}" for level in levels}


@pytest.mark.parametrize(
    "more",
    [
        ["--mgd-loss-factor", "5e7"],
        ["--mgd-weight", "0.1"],
        ["--mgd-adapter", "batch"],
        ["--mgd-reducer", "rd"],
    ],
)
def test_other_weights_adapters_and_reducers_train(
    tmp_path: Path, teacher: str, more: list[str]
) -> None:
    argv = options(tmp_path / "run", "--teacher", teacher, "--epochs", "1", *more)
    assert detect.main(argv) == 0
    assert all(losses(tmp_path / "run")[stage] > 0 for stage in STAGES)


def test_a_pretrained_backbone_starts_a_detector_with_its_stem_frozen(tmp_path: Path) -> None:
    torch.manual_seed(3)
    weights = tmp_path / "backbone.pth"
    torch.save(create_backbone("resnet18", width=0.125).state_dict(), weights)
    argv = options(tmp_path / "run", "--backbone-weights", str(weights), "--epochs", "1")
    assert detect.main(argv) == 0
    before = torch.load(weights, weights_only=True)
    after = load_file(tmp_path / "run" / "student.safetensors")
    moved = {k for k in after if not torch.equal(before[k], after[k])}
    assert not any(k.startswith(("conv1.", "bn1.")) for k in moved)
    assert {"layer1.0.conv1.weight", "layer4.1.conv2.weight"} <= moved
    assert not any("running" in k for k in moved)  # norms are frozen with such weights


@pytest.mark.parametrize("embedded", [True, False])
def test_a_detector_is_built_for_the_backbone_that_it_starts_from(
    tmp_path: Path, embedded: bool
) -> None:
    said: dict[str, Any] = {} if embedded else {"data": SAMPLE}
    weights = tmp_path / "backbone.pth"
    for spec in ({"arch": "resnet34", "width": 0.125}, {"width": 0.5, "stem": "small"}):
        torch.save(create_backbone(**spec).state_dict(), weights)
        network = complete(DetectConfig, backbone_weights=weights, **said).network
        assert network.spec == {"arch": "resnet18", "stem": "imagenet", "stem_stride": 1} | spec
    network = complete(DetectConfig, backbone_weights=weights, stem_stride=2, **said).network
    assert (network.stem, network.stem_stride) == ("small", 2)
    assert complete(DetectConfig, backbone_weights=weights, width=1.0, **said).network.width == 1
    name = Path("resnet50:IMAGENET1K_V1")
    network = complete(DetectConfig, backbone_weights=name, **said).network
    assert (network.arch, network.width) == ("resnet50", 1)
    assert complete(DetectConfig, **said).network.width == (0.25 if embedded else 1)


def test_the_width_that_a_backbone_needs_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "backbone.pth"
    torch.save(create_backbone("resnet18", width=0.25).state_dict(), weights)
    argv = options(tmp_path / "run", "--backbone-weights", str(weights), "--width", "0.5")
    assert "holds: --arch resnet18 --width 0.25 --stem imagenet" in said(argv, capsys)
    out = ["--out", str(tmp_path / "run"), *DETECTOR, *TRAINING, "--epochs", "1"]
    assert detect.main([str(SAMPLE), "--backbone-weights", str(weights), *out]) == 0


def test_a_trained_detector_is_trained_on(tmp_path: Path, teacher: str) -> None:
    argv = options(tmp_path / "run", "--student-weights", teacher, "--epochs", "1")
    assert detect.main(argv) == 0
    before = torch.load(teacher, weights_only=True)
    after = read_last(tmp_path / "run")
    assert after["detector"] == before["detector"]
    old, new = before["state_dict"], after["state_dict"]
    counted = [k for k in new if k.endswith("num_batches_tracked")]
    assert all(new[k] == old[k] + 3 for k in counted) and len(counted) == 19  # 3 steps
    stem = [k for k in new if ".body.conv1." in k or ".body.bn1." in k]
    assert all(torch.equal(new[k], old[k]) for k in stem) and len(stem) == 5


def test_a_body_that_is_not_torchvisions_is_not_read_as_one(tmp_path: Path, teacher: str) -> None:
    """Its keys are those of torchvision's network, which would compute something else."""
    content = torch.load(teacher, weights_only=True)
    content["detector"]["norm_eps"] = 1e-3
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="norms of another epsilon, expected torchvision's"):
        load_backbone(tmp_path / "other.pt")
    weights = ["--student-weights", str(tmp_path / "other.pt"), "--epochs", "1"]
    assert detect.main(options(tmp_path / "run", *weights)) == 0
    assert not (tmp_path / "run" / "student.safetensors").exists()
    assert read_last(tmp_path / "run")["detector"]["norm_eps"] == 1e-3


def test_what_is_said_of_a_files_detector_counts(
    tmp_path: Path, teacher: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--student-weights", teacher, "--epochs", "1", "--min-size", "48", "--norm", "frozen"]
    assert detect.main(options(tmp_path / "run", *given)) == 0
    found = read_last(tmp_path / "run")["detector"]
    before = torch.load(teacher, weights_only=True)["detector"]
    assert found == before | {"min_size": 48, "norm": "frozen"}
    message = said(options(tmp_path / "new", *given, "-a", "resnet50"), capsys)
    assert "a partial load is refused" in message and not (tmp_path / "new").exists()
    wide = ["--teacher", teacher, "--teacher-width", "0.5"]
    assert "a partial load is refused" in said(options(tmp_path / "new", *wide), capsys)


def test_two_processes_train_one_detector(tmp_path: Path, teacher: str) -> None:
    argv = options(tmp_path / "run", "--teacher", teacher, "--epochs", "1", "--accelerator", "cpu")
    run_on_two("detect", argv)
    rows = [row for row in read_rows(tmp_path / "run") if "train_loss" in row]
    assert [row["step"] for row in rows] == [3] and rows[0]["val_AP"] >= 0
