"""A batch and a queue that nobody named follow from the number of training images."""

from typing import Any

import pytest

from mgd_ssl.runs.pretrain import with_queue
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.training.checks import with_batch


def read(*words: str) -> PretrainConfig:
    return parse(PretrainConfig, "pretrain.py", ["photos", *words])


def batch(images: int, processes: int, *words: str) -> int:
    source: Any = range(images)  # only its length counts
    return with_batch(read(*words), source, processes).optim.batch_size


@pytest.mark.parametrize(
    ("images", "epochs", "processes", "expected"),
    [
        (1_281_167, 100, 1, 256),
        (9_469, 60, 1, 256),  # 2,219 steps
        (9_469, 20, 1, 64),  # 2,959; 1,479 with 128
        (9_469, 6, 1, 32),
        (205, 10_000, 1, 32),  # a quarter is 51
        (97, 100, 1, 16),
        (20, 100, 1, 8),
        (3, 100, 1, 2),
        (1, 100, 1, 1),
        (1_281_167, 100, 3, 255),
        (1_281_167, 100, 8, 256),
    ],
)
def test_a_batch_is_found(images: int, epochs: int, processes: int, expected: int) -> None:
    assert batch(images, processes, "--epochs", str(epochs)) == expected


def test_help_says_which_batch_few_images_have(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read("--help-all")
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "a quarter of the training images (at least 8)" in said
    assert (batch(16, 1), batch(40, 1)) == (8, 8)


def test_the_parts_of_a_found_batch_are_whole() -> None:
    assert batch(10_000, 2, "--accumulate", "3", "--teacher", "t") == 252


def test_a_batch_that_was_named_stays() -> None:
    assert batch(97, 1, "-b", "32") == 32
    with pytest.raises(ValueError, match=r"got 128 and 97 images.*--batch-size 64, for"):
        batch(97, 1, "-b", "128")
    with pytest.raises(ValueError, match=r"got 128 and 97 images.*--batch-size 64, for"):
        batch(97, 2, "-b", "128", "--accumulate", "2", "--teacher", "t")


@pytest.mark.parametrize(
    ("images", "words", "expected"),
    [
        (1_281_167, ["-b", "256"], 65_536),
        (9_469, ["-b", "128"], 9_344),  # 73 batches
        (1_281_167, ["-b", "96"], 65_472),
        (9_469, ["-b", "128", "--moco-k", "512"], 512),
    ],
)
def test_a_queue_holds_no_image_twice(images: int, words: list[str], expected: int) -> None:
    config = with_queue(read("--method", "moco", *words), images)
    assert config.objective.moco_k == expected  # type: ignore[attr-defined]


def test_objectives_without_a_queue_keep_none() -> None:
    config = read("--method", "simsiam")
    assert with_queue(config, 100) is config
