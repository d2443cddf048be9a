"""Images that are stored lying are seen upright by every command, or lying with ``--no-exif``."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from image_files import photo
from PIL import Image

from mgd_ssl.data import RandomCrops, open_source
from mgd_ssl.runs.evaluated_network import EvaluatedNetwork, EvaluationConfig
from mgd_ssl.settings.classify import ClassifyConfig
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.training.loaders import build_loader

ONE_PROCESS: Any = SimpleNamespace(global_rank=0, world_size=1)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The same eight images: lying with EXIF, lying without, upright without."""
    found = tuple(tmp_path / name for name in ("turned", "lying", "upright"))
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(8):
        place = f"{('train', 'val')[number % 2]}/{number // 4}/{number}.png"
        for folder in found:
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
        lying = Image.fromarray(photo(number, 40, 60))
        lying.save(found[0] / place, exif=exif)
        lying.save(found[1] / place)
        lying.transpose(Image.Transpose.ROTATE_270).save(found[2] / place)
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("config", [PretrainConfig, ClassifyConfig])
@pytest.mark.parametrize("crops", [None, RandomCrops(32, 2)])
def test_a_run_sees_images_upright_unless_told_otherwise(
    folders: tuple[Path, Path, Path], config: type, crops: RandomCrops | None
) -> None:
    turned, lying, upright = folders

    def images(folder: Path, *options: str) -> torch.Tensor:
        argv = [str(folder), "--size", "32", "-b", "4", "-j", "0", *options]
        source = open_source(folder, "train")
        loader = build_loader(parse(config, "run", argv), ONE_PROCESS, source, crops=crops)
        return torch.cat([batch.images for batch in loader])

    assert torch.equal(images(turned), images(upright))
    assert torch.equal(images(turned, "--no-exif"), images(lying))
    assert not torch.equal(images(lying), images(upright))


def test_an_evaluator_sees_images_upright_unless_told_otherwise(
    folders: tuple[Path, Path, Path], teacher: Path
) -> None:
    def evaluated(options: tuple[str, ...]) -> Iterator[EvaluatedNetwork]:
        for folder in folders:
            argv = [str(teacher), str(folder), "--size", "32", "-j", "0", *options]
            yield EvaluatedNetwork(parse(EvaluationConfig, "evaluator", argv), ("bank", "queries"))

    turned, lying, upright = (e.features("val").features for e in evaluated(()))
    assert torch.equal(turned, upright) and not torch.equal(turned, lying)
    as_stored, *_ = evaluated(("--no-exif",))
    assert torch.equal(as_stored.features("val").features, lying)
    assert as_stored.settings()["exif"] is False
