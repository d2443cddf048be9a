"""The recipes: what they ask of the commands, the folders of CUB, tables; nothing is trained."""

import argparse
import importlib
import json
from pathlib import Path

import pytest
from PIL import Image

from mgd_ssl.commands import classify
from mgd_ssl.data import open_source
from mgd_ssl.settings.classify import ClassifyConfig
from mgd_ssl.settings.evaluation import KnnConfig, LinearEvalConfig
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.training.schedules import learning_rate

RECIPES = Path(__file__).parents[1] / "recipes"
SPECIES = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
IMAGES = [(s, n) for s in SPECIES for n in range(3)]  # the third of each is for validation


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module


@pytest.fixture
def cub(tmp_path):
    """Six images of two species in the layout of CUB_200_2011."""
    root = tmp_path / "CUB_200_2011"
    lists = {"images.txt": [], "image_class_labels.txt": [], "train_test_split.txt": []}
    for number, (species, n) in enumerate(IMAGES, start=1):
        path = root / "images" / species / f"bird {n}.png"  # a name may hold a space
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(path)
        lists["images.txt"].append(f"{number} {species}/{path.name}")
        lists["image_class_labels.txt"].append(f"{number} {int(species[:3])}")
        lists["train_test_split.txt"].append(f"{number} {int(n < 2)}")
    for name, lines in lists.items():
        (root / name).write_text("\n".join(lines) + "\n")
    return root


def read(arguments):
    return parse(ClassifyConfig, "mgd-ssl classify", arguments)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ("mobilenet_v1", "resnet50"),
        ("mobilenet_v2", "resnet50"),
        ("shufflenet_v2_x1_0", "resnet50"),
        ("resnet50", "resnet152"),
        ("resnet18", "resnet50"),
    ],
)
def test_imagenets_command_line_is_the_published_schedule(recipe, student, teacher):
    arguments = recipe("imagenet_classification").arguments
    config = read(arguments(Path("imagenet"), student))
    optim, mgd = config.optim, config.mgd
    assert (config.network.arch, config.teacher.teacher) == (student, Path(teacher))
    assert (optim.batch_size, optim.optimizer, optim.momentum) == (256, "sgd", 0.9)
    assert (optim.nesterov, optim.weight_decay) == (True, 1e-4)
    assert (mgd.mgd_reducer, mgd.mgd_update_freq, mgd.mgd_strength) == ("amp", 1, 1e-4)
    rate = learning_rate(optim, 5, 1.0, extend=True)
    assert (rate.base, rate.epochs, rate.kind, rate.warmup) == (0.1, 130, "steps", 10)
    assert list(rate.milestones) == [40, 70, 90]
    alone = read(arguments(Path("imagenet"), student, alone=True))
    assert alone.teacher.teacher is None
    assert alone.optim == optim


def test_imagenets_pretraining_is_cached_trained_and_measured(
    recipe, tmp_path, monkeypatch, capsys
):
    called = []
    done = argparse.Namespace(returncode=0)
    monkeypatch.setattr("subprocess.run", lambda words, cwd: called.append(words[1:]) or done)
    main = recipe("imagenet_pretraining").main
    out = ["--out", str(tmp_path / "out"), "--devices", "8", "--epochs", "50"]
    main(["imagenet", "resnet50", *out, "-a", "resnet34", "--", "--seed", "3"])
    (_, *training), (_, *near), (_, *probing) = called
    run = parse(PretrainConfig, "pretrain.py", training)
    assert (run.teacher_cache, run.cache_views) == (tmp_path / "out/resnet50/cache", 20)
    assert run.loader.size == 224
    assert (run.method, run.network.arch) == ("mgd-plus", "resnet34")
    assert (run.optim.epochs, run.seed) == (50, 3)
    student = tmp_path / "out/resnet50/resnet34"
    assert parse(KnnConfig, "knn_eval.py", near).checkpoint == student
    assert parse(LinearEvalConfig, "linear_eval.py", probing).checkpoint == student
    called.clear()
    main(["imagenet", "dinov2", "--dry-run"])
    assert [words[0] for words in called] == ["pretrain.py"]
    assert "--dry-run" in called[0]
    assert capsys.readouterr().out.count("python linear_eval.py") == 2


def test_cubs_command_line_is_the_published_schedule(recipe):
    arguments = recipe("cub200").arguments
    config = read(arguments(Path("cub"), "mobilenet_v2", Path("teacher/last.pt"), kd=True))
    rate = learning_rate(config.optim, 5, 1.0, extend=True)
    assert (rate.base, rate.epochs, rate.warmup, config.optim.batch_size) == (0.01, 120, 0, 64)
    assert config.optim.nesterov
    assert (config.mgd.mgd_update_freq, config.mgd.mgd_reducer) == (2, "amp")
    assert (config.student_weights, config.network.arch) == (Path("mobilenet_v2"), None)
    assert (config.teacher.teacher, config.kd.kd) == (Path("teacher/last.pt"), True)
    teacher = read(arguments(Path("cub"), "resnet50"))
    assert (teacher.student_weights, teacher.teacher.teacher) == (Path("resnet50"), None)
    assert teacher.optim == config.optim


def test_cubs_folders_are_the_lists_splits_and_classes(recipe, cub, tmp_path):
    make_folders = recipe("cub200").make_folders
    for _ in range(2):  # a second run finds the links there
        data = make_folders(cub, tmp_path / "data")
    train, val = (open_source(data, split, labeled=True) for split in ("train", "val"))
    assert train.classes == val.classes == ["001.Black_footed_Albatross", "002.Laysan_Albatross"]
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert val.labels.tolist() == [0, 1]
    link = data / "val" / SPECIES[1] / "bird 2.png"
    assert link.is_symlink()
    assert link.resolve() == (cub / "images" / SPECIES[1] / "bird 2.png").resolve()


def test_a_label_beside_its_folder_counts_as_the_list_says(recipe, cub, tmp_path):
    lines = (cub / "image_class_labels.txt").read_text().replace(" 2\n", " 7\n")
    (cub / "image_class_labels.txt").write_text(lines)
    data = recipe("cub200").make_folders(cub, tmp_path / "data")
    assert (data / "train" / "007.Laysan_Albatross" / "bird 0.png").is_file()


@pytest.mark.parametrize("name", ["images.txt", "image_class_labels.txt", "train_test_split.txt"])
def test_a_missing_list_is_named(recipe, cub, tmp_path, name):
    (cub / name).unlink()
    with pytest.raises(ValueError, match=rf"{name}: no such file; expected the extracted folder"):
        recipe("cub200").make_folders(cub, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def cut(path):
    path.write_text("\n".join(path.read_text().splitlines()[:-2]) + "\n")


def garble(path):
    path.write_text(path.read_text() + "7\n")


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        ("images/001.Black_footed_Albatross/bird 1.png", Path.unlink, "1 of 6 images are missing"),
        ("train_test_split.txt", cut, "lists are of 6, 6 and 4 images, expected the same ids"),
        ("images.txt", garble, "got the line '7', expected an id and a value"),
    ],
)
def test_a_harmed_archive_is_refused_before_a_link_is_made(
    recipe, cub, tmp_path, name, harm, message
):
    harm(cub / name)
    with pytest.raises(ValueError, match=message):
        recipe("cub200").make_folders(cub, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_links_to_another_copy_are_not_mixed_with_these(recipe, cub, tmp_path):
    make_folders = recipe("cub200").make_folders
    data = make_folders(cub, tmp_path / "data")
    other = data / "train" / SPECIES[0] / "bird 0.png"
    other.unlink()
    other.symlink_to(cub / "images.txt")
    with pytest.raises(ValueError, match=r"bird 0.png: it is there and leads to .*images.txt"):
        make_folders(cub, data)


@pytest.fixture
def commands(monkeypatch):
    """What the recipes ask of classify, which writes figures and trains nothing."""
    asked = []

    def main(arguments):
        config = read(arguments)
        asked.append(config)
        config.out.mkdir(parents=True)
        rows = [{"val_top1": 10.0, "val_top5": 50.0}, {"val_top1": 79.5, "val_top5": 94.25}, {}]
        (config.out / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return 0

    monkeypatch.setattr(classify, "main", main)
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return asked


def test_cub_fine_tunes_a_teacher_then_distils_and_prints_both(
    recipe, cub, tmp_path, commands, capsys
):
    out = tmp_path / "runs"
    given = [str(cub), "--student", "shufflenet_v2_x1_0", "--kd", "--out", str(out)]
    recipe("cub200").main([*given, "--", "--workers", "3"])
    teacher, student = commands
    assert (teacher.student_weights, teacher.teacher.teacher) == (Path("resnet50"), None)
    assert student.teacher.teacher == teacher.out / "checkpoints" / "last.pt"
    assert student.kd.kd
    for config in commands:
        assert (config.loader.workers, config.data, config.resume) == (3, (out / "data",), True)
    printed = capsys.readouterr().out
    assert "| resnet50, alone | 20.50/5.75 | 20.02/6.06 |" in printed
    assert "| shufflenet_v2_x1_0 + kd | 20.50/5.75 | 25.18/7.87 |" in printed


def test_cub_takes_a_teacher_that_is_there(recipe, cub, tmp_path, commands):
    given = [str(cub), "--teacher", "own.pt", "--out", str(tmp_path / "runs")]
    recipe("cub200").main(given)
    assert [c.teacher.teacher for c in commands] == [Path("own.pt")]


def test_imagenet_prints_the_published_figure_beside_its_own(recipe, tmp_path, commands, capsys):
    main = recipe("imagenet_classification").main
    for more in ([], ["--alone"], ["--student", "resnet18"]):
        main(["imagenet", "--out", str(tmp_path), *more, "--", "--precision", "bf16"])
    assert all(c.device.precision == "bf16" for c in commands)
    assert len({c.out for c in commands}) == 3
    printed = capsys.readouterr().out
    assert "| mobilenet_v1 from resnet50 | 20.50/5.75 | 28.53/9.67 |" in printed
    assert "| mobilenet_v1, alone | 20.50/5.75 | 31.13/11.24 |" in printed
    assert "| resnet18 from resnet50 | 20.50/5.75 | none |" in printed


def test_other_processes_print_nothing(recipe, tmp_path, commands, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    recipe("imagenet_classification").main(["imagenet", "--out", str(tmp_path)])
    assert capsys.readouterr().out == ""


def test_a_command_that_fails_ends_the_recipe(recipe, cub, tmp_path, monkeypatch):
    monkeypatch.setattr(classify, "main", lambda _: 1)
    with pytest.raises(SystemExit) as stop:
        recipe("cub200").main([str(cub), "--out", str(tmp_path / "runs")])
    assert stop.value.code == 1


def test_a_table_gives_shares_of_a_row_in_the_figures_that_it_has(recipe):
    done = {
        "teacher": [{"top1": 80.0, "seconds": 1.0}],
        "student": [
            {"top1": 40.0, "speed": 5.0, "seconds": 2.0},
            {"top1": 44.0, "speed": 7.0, "seconds": 4.0},
        ],
    }
    text = recipe("tables").markdown(done, {"top1": "top-1", "speed": "images/s"}, of="teacher")
    assert text.splitlines() == [
        "| student | seeds | top-1 | % of teacher | images/s | s |",
        "|---|---|---|---|---|---|",
        "| teacher | 1 | 80.00 | 100.0 |  | 1 |",
        "| student | 2 | 42.00 ± 2.83 | 52.5 | 6.00 ± 1.41 | 3 |",
    ]


def test_every_objective_has_a_row_at_its_own_rate_and_one_for_each_rate_tried(recipe):
    objectives = recipe("objectives")
    options = argparse.Namespace(teacher=Path("t.pt"), seeds=3, rates=None)
    rows = objectives.rows(options)
    for row in rows:
        config = parse(PretrainConfig, "pretrain.py", ["data", *row.options])
        assert config.optim.lr == float(row.options[row.options.index("--lr") + 1])
        assert (config.teacher.teacher is None) == row.name.startswith("alone")
    methods = {row.options[row.options.index("--method") + 1] for row in rows}
    assert methods == {"mgd-plus", "mgd", "moco", "simreg", "seed", "compress", "disco", "simsiam"}
    options.rates = ["0.3", "1.0"]
    tried = objectives.rows(options)
    assert len(tried) == 2 * len(rows) and all(row.seeds == (0,) for row in tried)


def test_a_regret_is_what_the_found_rate_lacks_to_the_best(recipe):
    runs = [(70.0, 72.0), (72.0, 72.0)], [(71.5, 70.0), (71.5, 70.0)], [(60.0, 73.0), (62.0, 73.0)]
    found = [
        [{"knn20": knn, "linear": linear, "lr": 0.016, "steps": 591} for knn, linear in seeds]
        for seeds in runs
    ]
    assert recipe("rates").line(2, found) == (
        "| 2 | 591 | 0.016 | 71.00 ± 1.41 / 72.00 ± 0.00 | 71.50 ± 0.00 / 70.00 ± 0.00 "
        "| 61.00 ± 1.41 / 73.00 ± 0.00 | 0.5 / 1.0 |"
    )


def test_other_rates_are_multiples_of_the_one_that_the_first_run_found(
    recipe, tmp_path, monkeypatch
):
    rates, asked = recipe("rates"), []

    def train(argv):
        asked.append(argv)
        out = Path(argv[argv.index("--out") + 1])
        out.mkdir(parents=True)
        (out / "metrics.jsonl").write_text('{"step": 0, "found/lr": 0.016}\n{"step": 591}\n')
        return 0

    monkeypatch.setattr(rates.pretrain, "main", train)
    monkeypatch.setattr(rates, "evaluate", lambda *_: {"knn20": 70.0, "linear": 72.0})
    words = ["DATA", "--out", str(tmp_path), "--epochs", "2", "--", "-a", "resnet50"]
    monkeypatch.setattr("sys.argv", ["rates.py", *words])
    rates.main()
    given = [parse(PretrainConfig, "pretrain.py", argv) for argv in asked]
    assert [config.optim.lr for config in given] == [0, 0.008, 0.032]
    assert {config.network.arch for config in given} == {"resnet50"}
    row = "| 2 | 591 | 0.016 | 70.00 / 72.00 | 70.00 / 72.00 | 70.00 / 72.00 | 0.0 / 0.0 |"
    assert row in (tmp_path / "table.md").read_text()
