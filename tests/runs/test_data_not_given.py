"""What is said where DATA was left out, or stands in the place of CHECKPOINT."""

from pathlib import Path

import pytest

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
    with pytest.raises(ValueError, match="did you swap CHECKPOINT and DATA"):
        find_checkpoint(photos, [last])
    with pytest.raises(ValueError, match=r"a directory without [^?]*$"):
        find_checkpoint(photos, [image])
