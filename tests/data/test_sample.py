"""The recipe of the embedded sample, on small files."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from image_files import write_idx
from PIL import Image

RECIPE = Path(__file__).parents[2] / "recipes" / "make_sample.py"


@pytest.fixture
def recipe():
    spec = importlib.util.spec_from_file_location("make_sample", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_recipe_draws_the_same_images_of_every_class_each_time(tmp_path, monkeypatch, recipe):
    rng = np.random.default_rng(0)
    stored = {}
    for prefix, count in (("train", 1300), ("t10k", 220)):
        stored[prefix] = rng.integers(0, 256, (count, 3, 3))
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", stored[prefix])
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", np.arange(count) % 2)
    files = []
    for name in ("a.npz", "b.npz"):
        argv = ["make_sample.py", str(tmp_path), "--out", str(tmp_path / name)]
        monkeypatch.setattr(sys, "argv", argv)
        recipe.main()
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    with np.load(tmp_path / "a.npz") as sample:
        assert np.bincount(sample["train_labels"]).tolist() == [600, 600]
        assert np.bincount(sample["val_labels"]).tolist() == [100, 100]
        chosen = {image.tobytes() for image in sample["train_images"]}
    assert len(chosen) == 1200
    assert chosen <= {image.tobytes() for image in stored["train"].astype(np.uint8)}


def test_recipe_refuses_a_folder_of_other_images(tmp_path, monkeypatch, capsys, recipe):
    for folder in ("train/bird", "train/tree", "val/bird", "val/tree"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / folder / "0.png")
    out = tmp_path / "a.npz"
    monkeypatch.setattr(sys, "argv", ["make_sample.py", str(tmp_path), "--out", str(out)])
    with pytest.raises(SystemExit):
        recipe.main()
    assert "no IDX files; expected those of Fashion-MNIST" in capsys.readouterr().err
    assert not out.exists()
