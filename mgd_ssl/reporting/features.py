"""A map of a student's features in two dimensions, and retrieval examples."""

import importlib
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mgd_ssl.data import (
    ImageLoader,
    ImageSource,
    NoValidationError,
    eval_transform,
    make_loader,
    open_sources,
    subset,
)
from mgd_ssl.evaluation.features import Features, collect_features
from mgd_ssl.evaluation.picture import retrieval_picture
from mgd_ssl.evaluation.retrieval import neighbors
from mgd_ssl.models import load_backbone
from mgd_ssl.reporting.escaping import visible
from mgd_ssl.reporting.runs import Run
from mgd_ssl.settings.options import named, places
from mgd_ssl.training.logging import logger

MAX_IMAGES, MAX_BANK, BATCH = 1000, 5000, 64
MAX_COLORS = 10  # more cannot be told apart
CLUSTERS = 10
NEIGHBORS = 6


@dataclass(frozen=True)
class FeatureMap:
    """Features in two dimensions.

    Attributes:
        points: (N,2).
        labels: (N,) positions in ``words``.
        words: names of the classes or clusters.
        by: "class" or "cluster".
        method: "PCA" or "UMAP".
        share: of the variance in PCA's two dimensions, in percent; None for UMAP.
    """

    points: NDArray[Any]
    labels: Sequence[int]
    words: Sequence[str]
    by: str
    method: str
    share: float | None


def feature_map(run: Run, umap: bool = False) -> FeatureMap:
    """Map up to 1,000 validation images, or training images if there is no validation part.

    Args:
        run: of pretrain.py or ``mgd-ssl classify``.
        umap: use UMAP, which must be installed, instead of PCA.

    Raises:
        ValueError: the run's network or its images cannot be read, or it is a detector.
    """
    source, found, _ = _student_features(run, ("val", "train"), MAX_IMAGES)
    features = found.features.numpy()
    if (found.labels >= 0).all():
        labels, words = _classes(found.labels.tolist(), source.classes)
        by = "class"
    else:
        labels, by = cluster(features), "cluster"
        words = [f"cluster {i + 1}" for i in range(max(labels) + 1)]
    if umap:
        reducer = importlib.import_module("umap").UMAP(n_components=2, random_state=0)
        return FeatureMap(reducer.fit_transform(features), labels, words, by, "UMAP", None)
    points, share = principal(features)
    return FeatureMap(points, labels, words, by, "PCA", share)


def principal(features: NDArray[np.float32]) -> tuple[NDArray[Any], float]:
    """Features (N,D) on their first two principal directions (N,2), and their share of variance.

    The share is in percent, and 0 if all features are the same.
    """
    centered = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    left, values, _ = np.linalg.svd(centered, full_matrices=False)
    points = np.zeros((len(features), 2))
    points[:, : len(values[:2])] = left[:, :2] * values[:2]
    total = float((values**2).sum())
    return points, 100 * float((values[:2] ** 2).sum()) / total if total else 0.0


def cluster(features: NDArray[np.float32]) -> list[int]:
    """k-means cluster of each row of features (N,D), at most ten of them, numbered from 0."""
    count = min(CLUSTERS, len(features))
    faiss.omp_set_num_threads(torch.get_num_threads())
    means = faiss.Kmeans(features.shape[1], count, seed=0, min_points_per_centroid=1)
    means.train(features)
    _, nearest = means.index.search(features, 1)
    _, places = np.unique(nearest[:, 0], return_inverse=True)
    found: list[int] = places.tolist()
    return found


def _classes(labels: Sequence[int], names: Sequence[str] | None) -> tuple[list[int], list[str]]:
    """Positions and names; of many classes only the most frequent, and the others as one."""
    counted = [label for label, _ in Counter(labels).most_common()]
    kept = counted if len(counted) <= MAX_COLORS else counted[: MAX_COLORS - 1]
    kept = sorted(kept)
    words = [names[label] if names else f"class {label}" for label in kept]
    if len(kept) < len(counted):
        words.append("other classes")
    return [kept.index(label) if label in kept else len(kept) for label in labels], words


class Retrieval(NamedTuple):
    """Queries and their nearest neighbors.

    Attributes:
        png: the picture.
        marked: whether neighbors are marked as right or wrong, which needs labels.
    """

    png: bytes
    marked: bool


def retrieval_examples(run: Run, count: int) -> Retrieval:
    """A picture of queries with their six nearest neighbors among up to 5,000 training images.

    The queries are images of val; without a val part, training images, each without itself.

    Args:
        run: of pretrain.py or ``mgd-ssl classify``.
        count: number of queries, chosen with seed 0.

    Raises:
        ValueError: as `feature_map`, or too few images.
    """
    _, bank, bank_loader = _student_features(run, ("train",), MAX_BANK)
    own_rows = None
    try:
        _, queries, query_loader = _student_features(run, ("val",), count)
    except NoValidationError:
        order = torch.randperm(len(bank.features), generator=torch.Generator().manual_seed(0))
        own_rows = order[:count]
        features, labels, indices, _ = bank
        queries = Features(features[own_rows], labels[own_rows], indices[own_rows], 0)
        query_loader = bank_loader
    most = len(bank.features) - (own_rows is not None)
    found = neighbors(queries.features, bank.features, min(NEIGHBORS, most), own_rows)
    known = bool((queries.labels >= 0).all() and (bank.labels >= 0).all())
    with tempfile.TemporaryDirectory() as folder:
        path = retrieval_picture(
            _images(query_loader, queries.indices),
            torch.stack([_images(bank_loader, bank.indices[row]) for row in found.indices]),
            bank.labels[found.indices] == queries.labels[:, None] if known else None,
            Path(folder) / "retrieval.png",
        )
        return Retrieval(path.read_bytes(), known)


def _images(loader: ImageLoader, indices: Tensor) -> Tensor:
    """(N,3,S,S) uint8, as the network sees them."""
    return torch.stack([loader.dataset[int(i)].image for i in indices])


def _student_features(
    run: Run, splits: Sequence[str], most: int
) -> tuple[ImageSource, Features, ImageLoader]:
    """Pooled features of a fixed random choice of images from the first split that exists."""
    if run.config["command"] == "detect":
        raise ValueError(f"{run.path}: got a detector, expected a run of pretraining or classify")
    network, report = load_backbone(run.path / "student.safetensors")
    size = report.size or int(run.setting("loader.size") or 224)
    source = _open(run, splits)
    chosen = subset(source, min(most, len(source)), 0)
    exif = run.setting("loader.exif") is not False
    loader = make_loader(chosen, size, BATCH, train=False, exif=exif)
    transform = eval_transform(report.mean, report.std)
    return source, collect_features(network, loader, transform=transform, device="cpu"), loader


def _open(run: Run, splits: Sequence[str]) -> ImageSource:
    own = run.setting("evaluation.eval_data")
    data = places(own or run.setting("data"))
    names = () if own else ("train_folder", "val_folder", "max_pixels")
    opening = {name: run.setting(f"loader.{name}") for name in names}
    if data:
        logger.info("%s: reading images of %s", visible(str(run.path)), visible(named(data)))
    *others, last = splits
    for split in others:
        try:
            return open_sources(data, split, **opening)  # type: ignore[arg-type]
        except ValueError:
            continue  # unlabeled images often have no val part
    return open_sources(data, last, **opening)  # type: ignore[arg-type]
