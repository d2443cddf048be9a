"""mgd-ssl report on runs that the training commands wrote."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from image_files import class_tree
from pages import check_page, numbers, numbers_in
from PIL import Image
from test_classify import options as classify_options
from test_detect import options as detect_options
from tiny_runs import arguments

from mgd_ssl.commands import classify, detect, knn_eval, main, pretrain, report
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import PretrainConfig

SHORT = ["--epochs", "1", "--knn-every", "1", "--knn-bank", "50", "--limit", "32"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> Path:
    """A folder of runs: two seeds of a student, its baseline, a classifier, a detector."""
    home = tmp_path_factory.mktemp("runs")
    for seed in ("0", "1"):
        options = arguments(home / f"mgd-{seed}", teacher, *SHORT, "--seed", seed)
        assert pretrain.main(options) == 0
    assert pretrain.main(arguments(home / "moco-0", None, *SHORT)) == 0
    checkpoint = str(home / "mgd-0" / "checkpoints" / "last.pt")
    few = ["--limit", "60", "--limit-val", "30", "--knn-k", "5"]
    assert knn_eval.main([checkpoint, *few]) == 0
    assert classify.main(classify_options(home / "classify", "--epochs", "1", "--limit", "32")) == 0
    assert detect.main(detect_options(home / "detect", "--epochs", "1")) == 0
    return home


@pytest.fixture(scope="module")
def page(runs: Path) -> Path:
    """The report of them all, with pictures."""
    out = runs / "report.html"
    students = [str(runs / name) for name in ("mgd-0", "mgd-1", "classify", "detect")]
    options = ["--baseline", str(runs / "moco-0"), "--out", str(out), "--title", "Tiny <runs>"]
    assert (
        main.main(
            [
                "report",
                *students,
                *options,
                "--features",
                "--retrieve",
                "2",
                "--png",
                str(out.with_suffix("")),
            ]
        )
        == 0
    )
    return out


def test_the_three_kinds_of_run_stand_on_one_page(page: Path) -> None:
    parsed = check_page(page.read_text())
    words = " ".join(parsed.words)
    assert "Tiny <runs>" in parsed.words
    for said in ("kNN accuracy", "Top-1 accuracy", "Average precision", "Health", "images/s"):
        assert said in words
    content = json.loads(page.with_suffix(".json").read_text())
    named = {group["name"]: group for group in content["groups"]}
    assert {*named} == {"mgd", "classify", "detect", "moco-0"}
    assert named["mgd"]["seeds"] == [0, 1] and named["moco-0"]["role"] == "baseline"
    (first,) = (line for line in content["verdict"] if line["group"] == "mgd")
    assert ": against moco-0, trained without a teacher, mgd is " in first["sentence"]
    assert first["sentence"].endswith("(2 seeds against one seed).")
    others = [text for text in first["cautions"] if "had collapsed" not in text]  # after two steps
    assert not others[1:]
    assert not any("also differ" in caution for caution in first["cautions"])
    (result,) = named["mgd"]["results"][:1]
    assert result["settings"]["k"] == 5 and result["top1"]["runs"] == 1
    assert {*named["mgd"]["matching"]} == {f"layer{i}" for i in range(1, 5)}


def test_figures_are_those_of_the_metrics(runs: Path, page: Path) -> None:
    content = json.loads(page.with_suffix(".json").read_text())
    for run in content["runs"]:
        last = json.loads((Path(run["path"]) / "metrics.jsonl").read_text().splitlines()[-1])
        figure = next(last[k] for k in ("val_knn_top1", "val_top1", "val_AP") if k in last)
        assert run["figure"] == round(figure, 2) and run["finished"]


def test_markdown_says_every_number_of_the_json(page: Path) -> None:
    content = json.loads(page.with_suffix(".json").read_text())
    assert {*numbers(content)} <= numbers_in(page.with_suffix(".md").read_text())


def test_pictures_are_inside_and_a_detector_has_none(page: Path) -> None:
    text = page.read_text()
    assert text.count('src="data:image/png;base64,') == 3  # mgd, moco-0, classify
    assert "detect: no picture: " in text
    assert text.count("PCA of the features of 1000 images, by class") >= 3


def test_each_picture_of_the_page_is_a_file_too(page: Path) -> None:
    files = sorted(page.with_suffix("").iterdir())
    assert len(files) == page.read_text().count("<figure>")
    drawn = {path.stem: Image.open(path) for path in files}
    assert drawn["bars-knn-accuracy"].width == 4.6 * 300  # inches at 300 dots
    assert {picture.format for picture in drawn.values()} == {"PNG"}
    (page.with_suffix("") / "note.txt").write_text("x")
    others = ["--out", str(page.with_name("other.html")), "--png", str(page.with_suffix(""))]
    assert report.main([str(page.parent / "mgd-0"), *others]) == 1  # files of another report


def test_the_command_to_reproduce_reads_the_runs_own_settings(page: Path, runs: Path) -> None:
    content = json.loads(page.with_suffix(".json").read_text())
    python, script, *options = shlex.split(content["runs"][0]["reproduce"])
    assert (python, script) == ("python", "pretrain.py")
    config = parse(PretrainConfig, "pretrain.py", options)
    assert config.seed == 0 and config.out == runs / "mgd-0-again"
    assert config.optim.epochs == 1 and config.method == "mgd"


def test_unlabeled_images_without_a_val_part_are_colored_by_cluster(
    runs: Path, tmp_path: Path
) -> None:
    images = class_tree(tmp_path / "images", {"any": 12})
    run = shutil.copytree(runs / "mgd-0", tmp_path / "run")
    settings = (run / "config.yaml").read_text().replace("data: null", f"data: {images}", 1)
    (run / "config.yaml").write_text(settings)
    out = tmp_path / "page.html"
    assert report.main([str(run), "--features", "--out", str(out)]) == 0
    assert "by cluster" in out.read_text()


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    out = ["--out", str(tmp_path / "page.html")]
    for name, said in (
        ("empty", "which holds nothing; expected a run's config.yaml"),
        ("none", "which does not exist; expected the directory of a run"),
    ):
        assert report.main([str(tmp_path / name), *out]) == 1
        assert said in capsys.readouterr().err
    assert report.main(out) == 1
    assert "got no run, expected one or more" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "page.pdf"], "expected a name that ends with .html"),
        (["--umap"], "got --umap without --features"),
        (["--retrieve", "-1"], "retrieve: got -1, expected 0 or more"),
    ],
)
def test_options_out_of_range_are_refused(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main(["run", *options]) == 1
    assert said in capsys.readouterr().err
