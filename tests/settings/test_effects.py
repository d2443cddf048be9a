"""Options without effect are refused by name in every command; defaults and saved files never."""

from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mgd_ssl.detection.settings import DetectConfig
from mgd_ssl.runs.evaluated_network import EvaluatedNetwork
from mgd_ssl.settings.cache import CacheConfig
from mgd_ssl.settings.classify import ClassifyConfig
from mgd_ssl.settings.config_file import saved
from mgd_ssl.settings.effects import Needs, refuse_without_effect
from mgd_ssl.settings.evaluation import KnnConfig, LinearEvalConfig
from mgd_ssl.settings.methods import METHODS
from mgd_ssl.settings.options import ComputeOptions
from mgd_ssl.settings.parsing import complete, parse
from mgd_ssl.settings.pretrain import PretrainConfig

CONFIGS = (PretrainConfig, ClassifyConfig, DetectConfig)


def settle(config: type, line: str) -> Any:
    """What a command makes of its options."""
    return parse(config, "x", line.split())


UNREAD = {
    PretrainConfig: [
        "d --method moco --mgd-adapter group",
        "d --method moco --mgd-reducer sp",
        "d --method moco --ignore 0",
        "d --method moco --taps a=layer1",
        "d --method moco --teacher-width 0.5",
        "d --method moco --seed-t 0.3",
        "d --method moco --regression-head linear",
        "d --method moco --compress-t 0.1",
        "d --method moco --disco-hidden 64",
        "d --method moco --simsiam-dim 64",
        "d --method moco --objective-weight 1 --momentum 0.5 --optimizer adamw",
        "d --method moco --nesterov --optimizer adamw",
        "d --method moco --schedule 3",
        "d --method moco --no-cos --schedule 300",
        "d --method moco --stem-stride 2",
        "d --method moco --knn-every 0 --knn-k 5",
        "d --method moco --knn-every 0 --eval-data e",
        "d --method moco --health-every 0 --health-images 100",
        "d --method simsiam --moco-k 64",
        "d --method simsiam --moco-t 0.1",
        "d --method simreg --teacher resnet50 --mgd-adapter group",
        "d --method simreg --teacher resnet50 --mgd-update-freq 2",
        "d --method simreg --teacher resnet50 --teacher-taps a=layer1",
        "d --method seed --teacher resnet50 --moco-m 0.9",
        "d --method seed --teacher resnet50 --no-mlp",
        "d --method disco --teacher resnet50 --moco-dim 64",
        "d --method mgd-plus --teacher resnet50 --mgd-update-freq 2",
        "d --method moco --preset crops --jitter-hue 0.1",
        "d --method moco --preset small --blur-sigma-max 1",
        "d --teacher resnet50 --teacher-stem imagenet --teacher-stem-stride 2",
    ],
    ClassifyConfig: [
        "d --kd-t 2",
        "d --mgd-weighing mean",
        "d --mgd-weighing mean",
        "d --teacher-arch resnet50",
        "d --teacher resnet50 --kd --no-matching --mgd-adapter group",
        "d --optimizer adamw --momentum 0.5",
        "d --schedule 3",
        "d --evaluate --student-weights resnet50 --epochs 3",
        "d --evaluate --student-weights resnet50 --label-fraction 0.1",
        "d --evaluate --student-weights resnet50 --mean 0 0 0",
        "d --evaluate --student-weights resnet50 --limit 9",
        "d --evaluate --student-weights resnet50 --teacher t --teacher-size 64",
        "d --evaluate --student-weights resnet50 --resume",
    ],
    DetectConfig: [
        "d --size 64",
        "d --mean 0 0 0",
        "d --taps a=layer1",
        "d --warmup-epochs 2",
        "d --teacher t.pt --teacher-size 64",
        "d --teacher t.pt --unlabeled --val-every 2",
        "d --levels c2 c3",
        "d --teacher-caffe",
        "d --mgd-weighing start",
        "d --cos --schedule 3",
        "d --evaluate --student-weights w --epochs 3",
        "d --evaluate --student-weights w --precision bf16",
    ],
    CacheConfig: [
        "d --teacher t.pt --no-maps --grid 7",
        "d --teacher t.pt --no-maps --teacher-taps a=layer1",
    ],
    KnnConfig: ["t.pt d --neighbors 3", "t.pt d --stem imagenet --stem-stride 2"],
    LinearEvalConfig: [
        "t.pt d --lr 3",
        "t.pt d --schedule 3",
        "t.pt d --save-head head.pt",
        "t.pt d --protocol moco --holdout 0.2",
        "t.pt d --protocol moco --learning-rates 1 2",
        "t.pt d --protocol moco --epochs 5 --schedule 7",
    ],
}


@pytest.mark.parametrize(
    ("config", "line"), [(config, line) for config, lines in UNREAD.items() for line in lines]
)
def test_an_option_that_nothing_reads_is_refused_by_name(config: type, line: str) -> None:
    with pytest.raises(ValueError, match="which has no effect") as refused:
        settle(config, line)
    option = str(refused.value).partition("got --")[2].replace(",", " ").split()[0]
    assert f"--{option}" in line.split()
    assert "leave it out" in str(refused.value)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (PretrainConfig, "d --method moco --moco-k 64 --moco-dim 32 --no-cos --schedule 3"),
        (PretrainConfig, "d --method simreg --teacher t --regression-head linear --stem small"),
        (PretrainConfig, "d --method simreg --teacher t --mgd-loss-factor 100 --mgd-adapter batch"),
        (PretrainConfig, "d --method seed --teacher t --mgd-weight 1 --ignore 0"),
        (PretrainConfig, "d --method mgd --teacher t --mgd-update-freq 2 --moco-m 0.9"),
        (PretrainConfig, "--optimizer adamw --knn-k 5 --health-images 9 --stem-stride 1"),
        (ClassifyConfig, "d --optimizer adamw --wd 0.1 --no-cos --schedule 3"),
        (ClassifyConfig, "d --evaluate --student-weights w --precision bf16 --size 32 -b 8"),
        (DetectConfig, "d --teacher t --levels c2 --mgd-start 0.1 --optimizer sgd --momentum 0.5"),
        (LinearEvalConfig, "t.pt --protocol moco --lr 3 --epochs 90 --schedule 60"),
        (KnnConfig, "t.pt --retrieve 3 --neighbors 3 --precision bf16 --stem small"),
    ],
)
def test_an_option_that_is_read_is_taken(config: type, line: str) -> None:
    settle(config, line)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", ["", "images"])
def test_a_file_of_a_runs_settings_is_never_refused(tmp_path: Path, method: str, data: str) -> None:
    teacher = "--teacher t.pt" if METHODS[method].needs_teacher else ""
    config = settle(PretrainConfig, f"{data} --method {method} {teacher} --knn-every 0")
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(saved(config)))
    assert settle(PretrainConfig, f"--config {file}") == config


@pytest.mark.parametrize("config", [ClassifyConfig, DetectConfig])
@pytest.mark.parametrize("line", ["", "d", "d --teacher t", "d --teacher t --mgd-weight 1"])
def test_nor_is_one_of_another_command(tmp_path: Path, config: type, line: str) -> None:
    settings = settle(config, line)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(saved(settings)))
    assert settle(config, f"--config {file}") == settings


def test_every_rule_names_options_that_there_are() -> None:
    for config in CONFIGS:
        settings = complete(config)
        never = [replace(rule, holds=lambda _: False) for rule in settings.rules()]
        refuse_without_effect(settings, {}, never, config.recipe)  # defaults are not given


def test_a_default_that_was_typed_is_not_refused() -> None:
    rule = Needs(["mgd.mgd_adapter"], lambda _: False, "here", "say more")
    for adapter, refused in (("batch", False), ("group", True)):
        said = {"data": Path("d"), "method": "moco", "mgd_adapter": adapter}
        settings = complete(PretrainConfig, data=Path("d"), method="moco")
        settings = replace(settings, mgd=replace(settings.mgd, mgd_adapter=adapter))
        with pytest.raises(ValueError, match="group, which has no") if refused else nullcontext():
            refuse_without_effect(settings, said, [rule], PretrainConfig.recipe)


def test_nothing_to_train_by_is_refused_before_the_start() -> None:
    with pytest.raises(ValueError, match="objective_weight: got 0 without matching"):
        settle(PretrainConfig, "d --method simreg --teacher t --objective-weight 0")
    settle(PretrainConfig, "d --method simreg --teacher t --objective-weight 0 --mgd-weight 1")


@pytest.mark.parametrize("option", ["--limit", "--limit-val", "--batch-size"])
def test_a_size_or_number_of_zero_is_refused(option: str) -> None:
    name = option.removeprefix("--").replace("-", "_")
    with pytest.raises(ValueError, match=f"{name}: got 0, expected 1 or more"):
        settle(KnnConfig, f"t.pt d {option} 0")


@pytest.mark.parametrize("option", ["--taps", "--devices", "--num-nodes"])
def test_evaluators_have_no_options_of_training(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        settle(KnnConfig, f"t.pt d {option} 2")
    assert option in capsys.readouterr().err


def test_no_option_stands_in_two_sections() -> None:
    for config in CONFIGS:
        widest = config.widest()
        sections = [getattr(widest, f.name) for f in fields(widest)]
        names = [f.name for s in sections if hasattr(s, "__dataclass_fields__") for f in fields(s)]
        assert len(names) == len(set(names))


def test_precision_is_what_features_are_computed_in(teacher: Path) -> None:
    def features(precision: Any, autocast: bool = False) -> torch.Tensor:
        config = KnnConfig(teacher, limit=24, device=ComputeOptions(precision=precision))
        evaluated = EvaluatedNetwork(config, ("bank", "queries"))
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = evaluated.features("train").features
        assert found.dtype == torch.float32
        return found

    plain, half = features("32"), features("bf16")
    assert not torch.equal(plain, half)
    assert torch.equal(half, features("32", autocast=True))
    assert torch.allclose(plain, half, rtol=0.1, atol=0.05)
