"""Words that shells and users write, wherever they stand."""

from pathlib import Path

import pytest

from mgd_ssl.detection.settings import DetectConfig
from mgd_ssl.settings.evaluation import KnnConfig
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.settings.report import ReportConfig

MEAN = ["--teacher", "t", "--mgd-weighing", "mean"]
KNN = ["--knn-k", "1", "5", "--knn-t", "0.1", "0.5"]


@pytest.mark.parametrize(
    "argv",
    [
        ["t.pt", "data", *KNN],
        [*KNN, "t.pt", "data"],
        ["t.pt", *KNN, "data"],
        ["--knn-k", "1", "5", "t.pt", "--knn-t", "0.1", "0.5", "data"],
        ["--knn_k=1", "5", "t.pt", "--knn-t=0.1", "0.5", "data"],
    ],
)
def test_options_of_several_values_end_where_their_values_end(argv: list[str]) -> None:
    config = parse(KnnConfig, "knn_eval.py", argv)
    assert (config.knn_k, config.knn_t) == ((1, 5), (0.1, 0.5))
    assert (config.checkpoint, config.data) == (Path("t.pt"), (Path("data"),))


def test_what_is_no_value_of_a_list_is_the_data() -> None:
    config = parse(
        PretrainConfig,
        "x",
        ["--taps", "a=layer1", "b=layer2", "data", "--seed", "3", "--teacher", "t"],
    )
    assert (config.network.taps, config.data, config.seed) == (
        ("a=layer1", "b=layer2"),
        (Path("data"),),
        3,
    )
    config = parse(
        PretrainConfig,
        "x",
        ["--ignore", "data", "--mgd-stage-weights", "1", "2", "--resume", *MEAN],
    )
    assert (config.mgd.ignore, config.data, config.mgd.mgd_stage_weights) == (
        (),
        (Path("data"),),
        (1.0, 2.0),
    )
    assert config.resume
    levels = parse(DetectConfig, "x", ["--levels", "c2", "c3", "coco", "--teacher", "t"])
    assert (levels.levels, levels.data) == (("c2", "c3"), (Path("coco"),))


def test_options_of_one_value_and_of_three_take_no_more() -> None:
    config = parse(PretrainConfig, "x", ["--mean", "1", "2", "3", "data", "--std", "4", "5", "6"])
    assert (config.data, config.loader.mean, config.loader.std) == (
        (Path("data"),),
        (1, 2, 3),
        (4, 5, 6),
    )


def test_a_report_whose_runs_were_taken_for_baselines_says_so() -> None:
    with pytest.raises(ValueError, match="name the runs first: mgd-ssl report RUN"):
        parse(ReportConfig, "x", ["--baseline", "a", "b"])
    config = parse(ReportConfig, "x", ["--baseline", "a", "--title", "b", "run"])
    assert (config.runs, config.baseline) == ((Path("run"),), (Path("a"),))


@pytest.mark.parametrize("words", [[""], ["--out", ""], ["--out="], ["data", "--teacher", ""]])
def test_a_shells_unset_variable_is_not_the_current_directory(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"got nothing.*variable of the shell"):
        parse(PretrainConfig, "pretrain.py", words)


@pytest.mark.parametrize("seed", ["-1", str(2**63), "99999999999999999999"])
def test_a_seed_that_not_every_generator_takes_is_refused(seed: str) -> None:
    for config, words in ((PretrainConfig, []), (KnnConfig, ["a.pt"])):
        with pytest.raises(ValueError, match=f"seed: got {seed}, expected 0 to"):
            parse(config, "prog", [*words, "--seed", seed])


@pytest.mark.parametrize(
    "argv",
    [
        ["a", "b", "--size", "32", "--resume", "-b", "4"],
        ["a", "--size", "32", "b", "--resume", "-b", "4"],
        ["--size=32", "a", "--resume", "b", "-b", "4"],
        ["--ignore", "0", "a", "-b", "4", "--resume", "b", "--size", "32"],
    ],
)
def test_several_places_are_one_list_wherever_options_stand(argv: list[str]) -> None:
    config = parse(PretrainConfig, "x", [*argv, "--teacher", "t"])
    assert config.data == (Path("a"), Path("b")) and config.resume
    assert (config.loader.size, config.optim.batch_size) == (32, 4)


def test_a_checkpoint_and_its_data_may_stand_apart() -> None:
    for argv in (["t.pt", "--size", "32", "data"], ["--no-exif", "t.pt", "-b", "8", "data"]):
        config = parse(KnnConfig, "x", argv)
        assert (config.checkpoint, config.data) == (Path("t.pt"), (Path("data"),))


def test_an_unknown_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(PretrainConfig, "x", ["a", "--lrr", "0.1", "b"])
    assert "--lrr" in capsys.readouterr().err


def test_detection_takes_one_place() -> None:
    with pytest.raises(ValueError, match=r"data: got a \+ b, expected one place"):
        parse(DetectConfig, "x", ["a", "b"])
