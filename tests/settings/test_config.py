"""Recipes: the defaults that go with a choice."""

from pathlib import Path

import pytest

from mgd_ssl.detection.settings import DetectConfig
from mgd_ssl.models import create_backbone
from mgd_ssl.settings.cache import CacheConfig
from mgd_ssl.settings.classify import ClassifyConfig
from mgd_ssl.settings.evaluation import LinearEvalConfig
from mgd_ssl.settings.parsing import complete, parse
from mgd_ssl.settings.pretrain import EMBEDDED_TEACHER, PretrainConfig
from mgd_ssl.settings.run import SMALL_STEMMED, THINNABLE
from mgd_ssl.training.schedules import learning_rate


def read(*argv: str) -> PretrainConfig:
    return parse(PretrainConfig, "pretrain.py", argv)


def test_no_argument_distils_the_embedded_teacher_on_the_embedded_images() -> None:
    config = read()
    assert (config.method, config.teacher.teacher) == ("mgd-plus", EMBEDDED_TEACHER)
    assert config.out == Path("runs/resnet18")
    assert (config.network.width, config.network.stem, config.loader.size) == (0.125, "small", 32)
    assert config.optim.batch_size == 0  # found
    assert read("--method", "mgd").objective.moco_k == 4096  # type: ignore[attr-defined]


def test_a_folder_gets_the_settings_of_the_papers() -> None:
    config = read("images", "-a", "resnet50", "--optimizer", "sgd")
    assert config.method == "moco" and config.out == Path("runs/resnet50")
    assert (config.network.width, config.network.stem) == (1.0, "imagenet")
    moco = config.objective
    assert (moco.moco_k, moco.moco_m, moco.moco_t) == (0, 0.999, 0.2)  # type: ignore[attr-defined]
    optim = config.optim
    assert (optim.epochs, optim.batch_size, optim.lr, optim.weight_decay) == (200, 0, 0.03, 1e-4)
    assert config.loader.size == 224 and config.views.preset == "moco_v2"
    assert learning_rate(config.optim, 5, 1.0)(100, 0, 5) == pytest.approx(0.015)


def test_a_method_that_is_not_the_default_is_part_of_the_directory() -> None:
    assert read("--method", "simreg").out == Path("runs/resnet18-simreg")
    assert read("--method", "mgd-plus").out == Path("runs/resnet18")
    assert read("d", "--method", "simsiam", "-a", "resnet50").out == Path("runs/resnet50-simsiam")
    assert read("--method", "simreg", "--out", "mine").out == Path("mine")


def test_what_was_said_is_kept_on_the_embedded_data() -> None:
    argv = ["--method", "mgd", "--width", "0.25", "--epochs", "3", "--no-cos", "--schedule", "2"]
    argv += ["--lr", "0.05"]
    config = read(*argv)
    assert (config.network.width, config.optim.epochs, config.optim.lr) == (0.25, 3, 0.05)
    assert learning_rate(config.optim, 5, 1.0)(2, 0, 5) == pytest.approx(0.005)


def test_a_method_has_defaults_of_its_own_and_a_user_the_last_word() -> None:
    plus, old = read("d", "--teacher", "t"), read("d", "--teacher", "t", "--method", "mgd")
    assert (plus.method, plus.mgd.mgd_adapter) == ("mgd-plus", "expand")
    assert plus.mgd.mgd_update_images == 1000
    assert (plus.views.preset, old.views.preset) == ("crops", "moco_v2")
    assert read("d", "--teacher", "t", "--method", "seed").views.preset == "crops"
    assert read("d", "--method", "simsiam", "--size", "64").views.preset == "small"
    assert (plus.mgd.mgd_weighing, plus.mgd.mgd_strength) == ("start", 30)
    assert plus.objective.regression_head == "linear"  # type: ignore[attr-defined]
    assert (old.mgd.mgd_weighing, old.mgd.mgd_strength) == ("start", 30)
    assert old.mgd.mgd_adapter == "batch"
    more = ["--mgd-weighing", "mean", "--mgd-strength", "2", "--mgd-adapter", "batch"]
    said = read("d", "--teacher", "t", *more, "--regression-head", "four", "--lr", "7")
    mgd = said.mgd
    assert (mgd.mgd_weighing, mgd.mgd_strength, mgd.mgd_adapter) == ("mean", 2, "batch")
    assert said.objective.regression_head == "four"  # type: ignore[attr-defined]
    assert said.optim.lr == 7


@pytest.mark.parametrize(
    ("earlier", "now"),
    [
        (["--mgd-start", "0.3"], ["--mgd-weighing", "start", "--mgd-strength", "0.3"]),
        (["--mgd-weight=2"], ["--mgd-weighing", "mean", "--mgd-strength", "2"]),
        (["--mgd_loss_factor", "100"], ["--mgd-weighing", "published", "--mgd-strength", "0.01"]),
        (["--aug-plus"], ["--preset", "moco_v2"]),
    ],
)
def test_earlier_spellings_say_the_same(earlier: list[str], now: list[str]) -> None:
    assert read("d", "--teacher", "t", *earlier) == read("d", "--teacher", "t", *now)


@pytest.mark.parametrize("data", [["images"], []])
def test_muon_does_not_take_the_rate_of_sgd(data: list[str]) -> None:
    classify = parse(ClassifyConfig, "mgd-ssl classify", data).optim
    assert (classify.optimizer, classify.lr, classify.weight_decay) == ("muon", 0, 0.05)
    classify = parse(ClassifyConfig, "mgd-ssl classify", [*data, "--optimizer", "sgd"]).optim
    assert (classify.optimizer, classify.lr, classify.weight_decay) == ("sgd", 0.1, 1e-4)
    detect = parse(DetectConfig, "mgd-ssl detect", data).optim
    assert (detect.optimizer, detect.lr) == ("muon", 0)
    assert parse(PretrainConfig, "pretrain.py", []).optim.optimizer == "adamw"  # embedded images
    detect = parse(DetectConfig, "mgd-ssl detect", [*data, "--optimizer", "sgd"]).optim
    assert (detect.optimizer, detect.lr) == ("sgd", 0.01)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--teacher", "t"], ("muon", 0.0, None)),
        (["--teacher", "t", "--optimizer", "sgd"], ("sgd", 0.05, 1e-4)),
        (["--teacher", "t", "--optimizer", "sgd", "--lr", "7"], ("sgd", 7, 1e-4)),
        (["--teacher", "t", "--method", "simreg"], ("muon", 0.0, None)),
        (["--teacher", "t", "--method", "seed", "--optimizer", "sgd"], ("sgd", 0.03, 1e-4)),
        (["--teacher", "t", "--method", "mgd"], ("muon", 0.0, None)),
        (["--method", "moco", "--optimizer", "sgd"], ("sgd", 0.03, 1e-4)),
        (["--method", "moco", "--optimizer", "adamw"], ("adamw", 0.0, None)),
    ],
)
def test_an_optimizer_has_a_rate_and_a_decay_of_its_own(
    argv: list[str], expected: tuple[str, float, float | None]
) -> None:
    optim = read("images", *argv).optim
    assert (optim.optimizer, optim.lr, optim.weight_decay) == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["images", "--method", "mgd"], "got no teacher, expected --teacher PATH"),
        (["--mgd-reducer", "sp"], "mgd_adapter: got expand with the reducer sp"),
        (["d", "--method", "moco", "--seed-t", "0.3"], "no effect but with --method seed"),
        (["d", "--best", "agreement"], "best: got agreement, which needs a teacher"),
        (["--mgd-start", "no"], "mgd_start: got no, expected a number above 0"),
    ],
)
def test_options_that_exclude_each_other(argv: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(*argv)


def test_a_program_says_the_same_as_a_command_line() -> None:
    config = complete(PretrainConfig, data=Path("d"), teacher=Path("t"), method="seed", moco_k=512)
    assert config == read("d", "--teacher", "t", "--method", "seed", "--moco-k", "512")
    with pytest.raises(ValueError, match="learning_rate: no option of these settings, expected"):
        complete(PretrainConfig, learning_rate=0.1)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"optimizer": "adam"}, "optimizer: got 'adam', expected sgd, adamw, muon; nearest: adamw"),
        ({"precision": "bf16-mixed"}, "precision: got 'bf16-mixed', expected auto, 32, bf16, fp16"),
        ({"method": "mgd_plus"}, "method: got 'mgd_plus'.*nearest: mgd-plus"),
        ({"preset": "weaker"}, "preset: got 'weaker'"),
        ({"logger": "wandb"}, "logger: got 'wandb', expected a list of wandb"),
        ({"epochs": 1.5}, "epochs: got '1.5', expected INT"),
        ({"epochs": None}, "epochs: got null, expected INT"),
        ({"resume": "yes"}, "resume: got 'yes', expected"),
        ({"lr": float("nan")}, "lr: got nan, expected a finite number"),
        ({"seed": -1}, "seed: got -1, expected 0 to"),
    ],
)
def test_a_programs_values_are_held_to_the_options_choices(
    said: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        complete(PretrainConfig, **said)


def test_a_programs_text_is_read_as_the_command_line_reads_it() -> None:
    said = {"lr": "0.1", "epochs": "3", "out": "runs/x", "ignore": [0, 1], "seed": 7}
    argv = ["--lr", "0.1", "--epochs", "3", "--out", "runs/x", "--ignore", "0", "1", "--seed", "7"]
    assert complete(PretrainConfig, **said) == read(*argv)
    assert complete(PretrainConfig, lr=1).optim.lr == 1.0


def test_help_shows_the_defaults_of_the_choice(capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*argv: str) -> str:
        with pytest.raises(SystemExit):
            read(*argv, "--help-all")
        return " ".join(capsys.readouterr().out.replace("│", " ").split())

    plus, disco = shown("d", "--teacher", "t"), shown("d", "--teacher", "t", "--method", "disco")
    assert "(default: 30.0)" in plus and "(default: expand)" in plus and "--seed-t" not in plus
    assert "--disco-hidden INT" in disco and "(default: batch)" in disco


def test_a_file_of_settings_says_which_command_it_belongs_to(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("command: pretrain\nseed: 3\n")
    assert read("--config", str(file)).seed == 3
    file.write_text("command: detect\nseed: 3\n")
    with pytest.raises(ValueError, match="command: got settings of 'detect', expected those of"):
        read("--config", str(file))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--epochs 0", "epochs: got 0, expected 1 or more"),
        ("--weight-decay -1", "weight_decay: got -1.0, expected 0 or more"),
        ("--protocol moco --lr 0", "lr: got 0.0, expected above 0"),
        ("--holdout 0", "holdout: got 0.0, expected above 0"),
        ("--holdout 1", "holdout: got 1.0, expected a share below 1"),
        ("--learning-rates 0.1 0", "learning_rates: got 0.1 0.0, expected one or more, each above"),
    ],
)
def test_a_probe_out_of_range_is_refused_before_features_are_computed(
    words: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parse(LinearEvalConfig, "linear_eval.py", ["t.pt", *words.split()])


def test_a_cache_takes_a_share_of_bad_images() -> None:
    with pytest.raises(ValueError, match=r"bad_images: got 1\.5, expected from 0 to 1"):
        parse(CacheConfig, "mgd-ssl cache", ["--bad-images", "1.5"])


@pytest.mark.parametrize("arch", ["mobilenet_v3_small", "regnet_y_400mf", "swin_t", *SMALL_STEMMED])
def test_any_network_has_settings_for_the_embedded_images(arch: str) -> None:
    network = read("-a", arch).network
    assert (network.width < 1) == (arch in THINNABLE)
    assert (network.stem == "small") == (arch in SMALL_STEMMED)
    assert create_backbone(**network.spec)


@pytest.mark.parametrize(
    ("more", "adapter"),
    [
        ([], "expand"),
        (["--mgd-reducer", "sp"], "batch"),
        (["--mgd-update-freq", "2"], "batch"),
        (["--mgd-weighing", "published"], "batch"),
        (["--mgd-stage-weights", "1", "1", "1", "1"], "batch"),
        (["--mgd-weighing", "published", "--mgd-adapter", "expand"], "expand"),
    ],
)
def test_a_classifier_is_matched_in_groups_where_something_of_groups_is_said(
    more: list[str], adapter: str
) -> None:
    mgd = parse(ClassifyConfig, "mgd-ssl classify", ["images", "--teacher", "t", *more]).mgd
    assert mgd.mgd_adapter == adapter
    published = "published" in more or "--mgd-stage-weights" in more
    assert mgd.mgd_strength == (1e-4 if published else 30)
