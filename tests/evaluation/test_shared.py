"""Two processes that share a measurement out get the figures of one process alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.data import ArraySource, make_loader
from mgd_ssl.detection.annotations import AnnotationTable, Objects
from mgd_ssl.detection.average_precision import detector_ap
from mgd_ssl.detection.loading import DetectionBatch
from mgd_ssl.detection.sources import DetectionSource
from mgd_ssl.evaluation.accuracy import classifier_accuracy
from mgd_ssl.evaluation.features import collect_features
from mgd_ssl.evaluation.online import OnlineKnn
from mgd_ssl.evaluation.online_health import OnlineHealth

PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
CPU = torch.device("cpu")


class Pixels(nn.Module):
    """Features, or logits, are pixels times a matrix."""

    def __init__(self, seed: int, width: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(16, width, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0].flatten(1) @ self.weight


def source(count: int, seed: int) -> ArraySource:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 4, 4), dtype=np.uint8)
    return ArraySource(images, rng.integers(0, 4, count))


def share(count: int, seed: int, rank: int, world: int) -> Any:
    return make_loader(source(count, seed), 4, 5, train=False, seed=0, rank=rank, world_size=world)


def six_boxes() -> DetectionSource:
    """Six images of one object each."""
    boxes = np.tile([1.0, 1, 6, 6], (6, 1))
    rows = Objects(boxes, np.zeros(6, np.int64), np.full(6, 25.0), np.zeros(6, np.bool_))
    ids, sizes = [10, 11, 12, 13, 14, 15], np.full((6, 2), 8)
    table = AnnotationTable(ids, [1], ["thing"], rows, np.arange(7), sizes)
    return DetectionSource(ArraySource(np.zeros((6, 8, 8), np.uint8)), table)


def batches(rank: int, world: int) -> list[DetectionBatch]:
    """Each image's pixels are its number."""
    mine = range(rank, 6, world)
    pictures = [torch.full((3, 8, 8), i, dtype=torch.uint8) for i in mine]
    none = torch.full((len(mine),), -1)
    return [DetectionBatch(pictures, [], torch.tensor([*mine]), none)]


class Finder(nn.Module):
    """Finds the object of images of an even number."""

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        found = []
        for image in images:
            even = int(255 * float(image[0, 0, 0]) + 0.5) % 2 == 0
            boxes = torch.tensor([[1.0, 1.0, 6.0, 6.0]])[: int(even)]
            ones = torch.ones(len(boxes))
            found.append({"boxes": boxes, "scores": ones, "labels": ones.long() - 1})
        return found


def measured(rank: int = 0, world: int = 1) -> dict[str, Any]:
    knn = OnlineKnn(share(31, 1, rank, world), share(11, 2, rank, world), 5, 0.1, CPU)
    one = OnlineKnn(knn.bank, share(1, 2, rank, world), 5, 0.1, CPU)  # a rank without a query
    health = OnlineHealth(share(21, 3, rank, world), 5, CPU)
    health.set_teacher(Pixels(1, 7), PLAIN)
    whole = collect_features(Pixels(2, 6), knn.queries, transform=lambda x: x / 255, device="cpu")
    accuracy = classifier_accuracy(
        Pixels(0, 4), share(11, 2, rank, world), transform=lambda x: x / 255, device="cpu"
    )
    ap = detector_ap(Finder(), six_boxes(), batches(rank, world), category_ids=(1,), device="cpu")
    return {
        "knn": [knn(Pixels(2, 6), PLAIN), one(Pixels(2, 6), PLAIN)],
        "health": list(health(Pixels(2, 6), PLAIN).values()),
        "features": whole.features.flatten().tolist(),
        "rows": [whole.labels.tolist(), whole.indices.tolist(), whole.failed],
        "accuracy": accuracy,
        "ap": list(ap.values()),
    }


def run_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(measured(rank, 2)))
    with pytest.raises(ValueError, match="only the second"):
        distributed.together(lambda: refuse(rank))
    with pytest.raises(distributed.ShareFailedError, match="rank 1: RuntimeError: no memory"):
        distributed.together(lambda: run_out(rank))
    with pytest.raises(ValueError, match="got labels 0 to 3, expected 0 to 1"):
        classifier_accuracy(
            Pixels(0, 2), share(11, 2, rank, 2), transform=lambda x: x / 255, device="cpu"
        )
    ragged = torch.arange(3.0 * rank).view(-1, 3)  # none and one row
    assert distributed.all_gather_rows(ragged).tolist() == [[0.0, 1.0, 2.0]]
    assert distributed.gather_on_first([rank]) == ([0, 1] if rank == 0 else [])
    assert distributed.from_first(lambda: rank + 5) == 5
    with pytest.raises(OSError, match="the first's disk"):
        distributed.from_first(lambda: refuse_first(rank))
    dist.destroy_process_group()


def refuse_first(rank: int) -> None:
    if rank == 0:
        raise OSError("the first's disk")
    raise AssertionError("the first alone is asked")


def refuse(rank: int) -> None:
    if rank == 1:
        raise ValueError("only the second")


def run_out(rank: int) -> None:
    if rank == 1:
        raise RuntimeError("no memory")


def test_two_processes_measure_what_one_measures(tmp_path: Path) -> None:
    # forked: to import all of it anew takes longer than all that is measured
    mp.start_processes(run_rank, (str(tmp_path),), nprocs=2, start_method="fork")
    alone = measured()
    assert alone["ap"][0] == pytest.approx(50, abs=1)  # half of the objects, all of them right
    assert 0 < alone["knn"][0] < 100
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert (found["knn"], found["rows"]) == (alone["knn"], alone["rows"])
        assert (found["accuracy"], found["ap"]) == (alone["accuracy"], alone["ap"])
        assert found["features"] == pytest.approx(alone["features"], rel=1e-5)
        assert found["health"] == pytest.approx(alone["health"], rel=1e-5)
