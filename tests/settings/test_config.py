"""Settings: what stands where nothing was said."""

from pathlib import Path

import pytest

from mgd_ssl.settings.options import parse
from mgd_ssl.settings.pretrain import EMBEDDED_TEACHER, PretrainConfig, resolve


def test_no_argument_distils_the_embedded_teacher_on_the_embedded_images() -> None:
    config = resolve(PretrainConfig())
    assert (config.method, config.teacher.teacher) == ("mgd-plus", EMBEDDED_TEACHER)
    assert config.out == Path("runs/resnet18")
    assert (config.network.width, config.network.stem, config.loader.size) == (0.125, "small", 32)
    assert (config.optim.batch_size, config.moco.moco_k) == (128, 4096)


def test_a_folder_gets_the_settings_of_the_papers() -> None:
    config = resolve(parse(PretrainConfig, "pretrain.py", ["images", "-a", "resnet50"]))
    assert config.method == "moco" and config.out == Path("runs/resnet50")
    assert (config.network.width, config.network.stem) == (1.0, "imagenet")
    assert (config.moco.moco_k, config.moco.moco_m, config.moco.moco_t) == (65536, 0.999, 0.2)
    optim = config.optim
    assert (optim.epochs, optim.batch_size, optim.lr, optim.weight_decay) == (200, 256, 0.03, 1e-4)
    assert config.loader.size == 224 and config.views.preset == "moco_v2"
    assert config.optim.learning_rate()(100, 0, 5) == pytest.approx(0.015)


def test_what_was_said_is_kept_on_the_embedded_data() -> None:
    argv = ["--method", "mgd", "--width", "0.25", "--epochs", "3", "--no-cos", "--schedule", "2"]
    config = resolve(parse(PretrainConfig, "pretrain.py", argv))
    assert (config.network.width, config.optim.epochs, config.optim.lr) == (0.25, 3, 0.06)
    assert config.optim.learning_rate()(2, 0, 5) == pytest.approx(0.006)


def test_a_method_has_defaults_of_its_own_and_a_user_the_last_word() -> None:
    def read(*argv: str) -> PretrainConfig:
        return resolve(parse(PretrainConfig, "pretrain.py", ["images", "--teacher", "t", *argv]))

    plus, old = read(), read("--method", "mgd")
    assert (plus.method, plus.mgd.mgd_adapter, plus.mgd.mgd_loss_factor) == (
        "mgd-plus",
        "expand",
        None,
    )
    assert plus.objective.regression_head == "linear" and plus.mgd.mgd_start == 30
    assert (old.mgd.mgd_start, old.mgd.mgd_loss_factor) == (None, 1e4)
    assert old.mgd.mgd_adapter == "batch"
    said = read(
        "--mgd-weight", "2", "--mgd-adapter", "batch", "--regression-head", "four", "--lr", "7"
    )
    assert (said.mgd.mgd_weight, said.mgd.mgd_start, said.mgd.mgd_adapter) == (2, None, "batch")
    assert (said.objective.regression_head, said.optim.lr) == ("four", 7)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--teacher", "t"], ("adamw", 2e-3, 0.05)),
        (["--teacher", "t", "--optimizer", "sgd"], ("sgd", 0.03, 1e-4)),
        (["--teacher", "t", "--optimizer", "sgd", "--lr", "7"], ("sgd", 7, 1e-4)),
        (["--method", "moco"], ("sgd", 0.03, 1e-4)),
        (["--method", "moco", "--optimizer", "adamw"], ("adamw", 2e-3, 0.05)),
    ],
)
def test_an_optimizer_has_a_rate_and_a_decay_of_its_own(
    argv: list[str], expected: tuple[str, float, float]
) -> None:
    optim = resolve(parse(PretrainConfig, "pretrain.py", ["images", *argv])).optim
    assert (optim.optimizer, optim.lr, optim.weight_decay) == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["images", "--method", "mgd"], "got no teacher, expected --teacher PATH"),
        (["--mgd-reducer", "sp"], "mgd_adapter: got expand with the reducer sp"),
        (["--aug-plus", "--preset", "weak"], "--aug-plus and --preset weak, expected one of them"),
    ],
)
def test_options_that_exclude_each_other(argv: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(parse(PretrainConfig, "pretrain.py", argv))


def test_a_file_of_settings_says_which_command_it_belongs_to(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("command: pretrain\nseed: 3\n")
    assert parse(PretrainConfig, "pretrain.py", ["--config", str(file)]).seed == 3
    file.write_text("command: detect\nseed: 3\n")
    with pytest.raises(ValueError, match="command: got settings of 'detect', expected those of"):
        parse(PretrainConfig, "pretrain.py", ["--config", str(file)])
