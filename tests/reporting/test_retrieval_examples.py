"""Retrieval examples of images without labels and without a val part."""

from pathlib import Path
from typing import Any

import pytest
import torch
from image_files import photo, save
from torch import Tensor
from torch.nn.functional import cosine_similarity
from written_runs import write_run

from mgd_ssl.data import eval_transform
from mgd_ssl.models import create_backbone
from mgd_ssl.models.backbones import backbone_state
from mgd_ssl.reporting import features
from mgd_ssl.reporting.runs import read_run
from mgd_ssl.training.checkpoint import export_student


def test_training_images_are_shown_beside_the_nearest_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(9):
        save(tmp_path / "images" / f"{i}.png", photo(i))
    torch.manual_seed(0)
    network = create_backbone("resnet18", width=0.125, stem="small").eval()
    run = write_run(tmp_path / "run", data=[str(tmp_path / "images")])
    norm = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    file = run / "student.safetensors"
    export_student(file, backbone_state(network), network.spec, norm, 32, {})  # type: ignore[arg-type]
    drawn = dict[str, Any]()

    def draw(queries: Tensor, neighbors: Tensor, correct: Tensor | None, path: Path) -> Path:
        drawn.update(queries=queries, neighbors=neighbors, correct=correct)
        path.write_bytes(b"drawn")
        return path

    monkeypatch.setattr(features, "retrieval_picture", draw)
    assert features.retrieval_examples(read_run(run), 4) == (b"drawn", False)
    assert drawn["correct"] is None and len(drawn["queries"]) == 4

    transform = eval_transform(norm["mean"], norm["std"])

    def pooled(images: Tensor) -> Tensor:
        with torch.no_grad():
            return network(transform(images))  # type: ignore[no-any-return]

    for query, row in zip(drawn["queries"], drawn["neighbors"], strict=True):
        assert not any(torch.equal(query, image) for image in row)
        similarities = cosine_similarity(pooled(query[None]), pooled(row))
        assert (similarities.diff() <= 1e-6).all() and len(row) == features.NEIGHBORS
