"""Options by the names of other projects."""

import pytest

from mgd_ssl.detection.settings import DetectConfig
from mgd_ssl.settings.config_file import leaves
from mgd_ssl.settings.evaluation import KnnConfig, LinearEvalConfig
from mgd_ssl.settings.other_names import OTHER_NAMES
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import PretrainConfig


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--learning-rate 0.1", "--lr"),
        ("--learning_rate=0.1", "--lr"),
        ("--lr-scale 2", r"--lr \(--lr is not scaled"),
        ("--num-workers 3", "--workers"),
        ("--output-dir o", "--out"),
        ("--model resnet50", "--arch"),
        ("--batch 8", "--batch-size"),
        ("--image-size 64", "--size"),
        ("--data d", "DATA alone"),
    ],
)
def test_the_option_of_this_project_is_named(words: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"no such option, expected {expected}"):
        parse(PretrainConfig, "pretrain.py", words.split())


def test_all_that_are_wrong_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"--bs: .*--batch-size; --weights: .*CHECKPOINT alone"):
        parse(LinearEvalConfig, "linear_eval.py", ["--bs", "3", "--weights", "t.pt"])


def test_a_word_means_what_the_command_has() -> None:
    assert parse(PretrainConfig, "x", ["d", "--moco-t", "0.1"]).method == "moco"
    with pytest.raises(ValueError, match=r"--k: .*--knn-k"):
        parse(KnnConfig, "knn_eval.py", ["t.pt", "--k", "5"])
    with pytest.raises(SystemExit):  # detect has no --knn-k to point to
        parse(DetectConfig, "detect", ["--k", "5"])


def test_every_option_that_is_pointed_to_exists() -> None:
    configs = (PretrainConfig.widest(), KnnConfig(), LinearEvalConfig())
    known = {name for config in configs for name, _ in leaves(config)}
    assert OTHER_NAMES.keys() <= known
