"""What is said where DATA was left out, or stands in the place of CHECKPOINT."""

from pathlib import Path
from types import ModuleType

import pytest

from mgd_ssl.commands import embed, export, knn_eval, linear_eval
from mgd_ssl.models import find_checkpoint
from mgd_ssl.runs.feature_network import data_of_run


@pytest.mark.parametrize(
    ("config", "data"),
    [
        ("data:\n- photos\n- more\n", "photos, more"),
        ("data: photos", "photos"),
        ("data: null", ""),
        ("data: []\n", ""),
        ("- 1\n", ""),
        ("[", ""),
    ],
)
def test_the_data_of_a_run_is_read_from_its_settings(tmp_path: Path, config: str, data: str):
    (tmp_path / "config.yaml").write_text(config)
    assert data_of_run(tmp_path / "checkpoints" / "last.pt") == data
    assert data_of_run(tmp_path / "student.safetensors") == data


def test_a_swap_of_checkpoint_and_data_is_suggested_for_a_checkpoint_alone(tmp_path: Path):
    photos, last, image = (tmp_path / name for name in ("photos", "last.pt", "a.png"))
    photos.mkdir()
    last.touch()
    image.touch()
    with pytest.raises(ValueError, match="Did you swap CHECKPOINT and DATA"):
        find_checkpoint(photos, [last])
    with pytest.raises(ValueError, match=r"a directory without [^?]*$"):
        find_checkpoint(photos, [image])
    (tmp_path / "run").mkdir()
    last.rename(tmp_path / "run" / "last.pt")
    with pytest.raises(ValueError, match="Did you swap CHECKPOINT and DATA"):
        find_checkpoint(photos, [tmp_path / "run"])


@pytest.mark.parametrize("command", [embed, export, knn_eval, linear_eval])
@pytest.mark.parametrize("out", [[], ["--out", "a.safetensors"]])
def test_a_folder_in_the_place_of_the_checkpoint_hears_what_comes_first(
    command: ModuleType, out: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    assert command.main([str(tmp_path / "photos"), *out]) == 1
    assert "CHECKPOINT comes first, then DATA" in capsys.readouterr().err


def test_an_option_that_names_a_folder_does_not_hear_what_comes_first(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"or one with model\.safetensors$"):
        find_checkpoint(tmp_path)
