"""Exact k nearest neighbors by cosine, and the accuracy of their weighted vote."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import SupportsIndex

import faiss
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mgd_ssl.evaluation.accuracy import within_top
from mgd_ssl.evaluation.inputs import (
    Array,
    as_count,
    as_features,
    as_labels,
    check_pair,
    normalize,
    numbered,
)
from mgd_ssl.progress import tracked

# Rows in a block on the GPU: the similarities of a block are 1024 × 65,536 floats, 256 MiB.
QUERY_BLOCK, BANK_BLOCK = 1024, 65_536
FAISS_BLOCK = 4096  # queries that faiss takes at once; the last block may have up to twice as many
KNN = "nearest neighbors"
# Votes (queries × classes) held at once.
VOTE_BLOCK = 1 << 24


def knn_search(
    query: Array, bank: Array, k: SupportsIndex
) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """Find the k rows of the bank that are most similar to each query by cosine, exactly.

    faiss searches on the CPU, torch by blocks on the GPU: neither ever holds the whole matrix of
    similarities. Rows need not be normalized. A row of zeros has no direction: its cosine to
    everything is taken as 0, and a warning counts such rows. Rows of equal cosine are in any
    order.

    Args:
        query: features to look up, (Q,D), a tensor or an array of any numeric type; the search
            itself is in float32.
        bank: features to search, (M,D), on the same device.
        k: number of neighbors of each query, 1 ≤ k ≤ M.

    Returns:
        Cosines (Q,k) float32 in [-1,1], descending along a row, and rows of the bank (Q,k) int64.

    Raises:
        ValueError: a matrix is empty or holds a non-finite value, the two differ in D or device,
            or k is not in 1..M.
    """
    query, bank, k = as_features("query", query), as_features("bank", bank), as_count("k", k)
    check_pair(query, bank)
    if not 1 <= k <= len(bank):
        raise ValueError(
            f"k: got {k}, expected 1 to {len(bank)}, the rows of the bank: "
            "take a smaller k or a larger bank"
        )
    query, bank = normalize("query", query), normalize("bank", bank)
    if query.device.type == "cpu":
        similarities, indices = _search_by_faiss(query, bank, k)
    else:
        similarities, indices = _search_by_blocks(query, bank, k)
    return similarities.clamp_(-1, 1), indices  # rounding can lead past 1


def _search_by_faiss(
    query: Float[Tensor, "q d"], bank: Float[Tensor, "m d"], k: int
) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """Top k of unit rows on the CPU, in faiss's own blocks of queries, so that figures are its."""
    # faiss uses its own OpenMP, which ignores torch.set_num_threads.
    faiss.omp_set_num_threads(torch.get_num_threads())
    ends = [*range(FAISS_BLOCK, len(query) - FAISS_BLOCK + 1, FAISS_BLOCK), len(query)]
    blocks = torch.tensor_split(query, ends[:-1])
    found = [
        faiss.knn(rows.numpy(), bank.numpy(), k, metric=faiss.METRIC_INNER_PRODUCT)
        for rows in tracked(blocks, KNN, len(query), "queries", count=len)
    ]
    similarities, indices = (np.concatenate(column) for column in zip(*found, strict=True))
    return torch.from_numpy(similarities), torch.from_numpy(indices)


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Matrix products without autocast and TF32, whose 10-bit mantissa changes the ranking."""
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def _search_by_blocks(
    query: Float[Tensor, "q d"],
    bank: Float[Tensor, "m d"],
    k: int,
    query_block: int = QUERY_BLOCK,
    bank_block: int = BANK_BLOCK,
) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """Top k of unit rows by blocks of queries and of the bank, on any device."""
    blocks = torch.split(query, query_block)
    with full_float32(query.device):
        shown = tracked(blocks, KNN, len(query), "queries", count=len)
        found = [_search_one_block(rows, bank, k, bank_block) for rows in shown]
    return torch.cat([s for s, _ in found]), torch.cat([i for _, i in found])


def _search_one_block(
    query: Float[Tensor, "q d"], bank: Float[Tensor, "m d"], k: int, bank_block: int
) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    best = query.new_empty(len(query), 0)
    rows = torch.empty(len(query), 0, dtype=torch.int64, device=query.device)
    for start in range(0, len(bank), bank_block):
        block = query @ bank[start : start + bank_block].T
        similarities, indices = block.topk(min(k, block.shape[1]), dim=1)
        best = torch.cat([best, similarities], dim=1)
        rows = torch.cat([rows, indices + start], dim=1)
        best, order = best.topk(min(k, best.shape[1]), dim=1)
        rows = rows.gather(1, order)
    return best, rows


def knn_accuracy(
    train_features: Array,
    train_labels: Array,
    test_features: Array,
    test_labels: Array,
    k: SupportsIndex = 200,
    temperature: float = 0.1,
) -> dict[str, float]:
    """Accuracy of a vote of the k nearest neighbors, weighted by exp(cosine / temperature).

    Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018.

    Args:
        train_features: the bank, (M,D).
        train_labels: its classes, (M,), whole numbers from 0, of any type.
        test_features: the queries, (Q,D).
        test_labels: their classes, (Q,).
        k: number of neighbors that vote, 1 ≤ k ≤ M.
        temperature: of the weights, above 0.

    Returns:
        ``top1`` and ``top5`` in percent. A class without a vote is never among the five.

    Raises:
        ValueError: as ``knn_search``; labels do not fit the features, or are negative or not
            whole numbers; the temperature is not above 0.
    """
    row = knn_sweep(train_features, train_labels, test_features, test_labels, (k,), (temperature,))[
        0
    ]
    return {"top1": row["top1"], "top5": row["top5"]}


def knn_sweep(
    train_features: Array,
    train_labels: Array,
    test_features: Array,
    test_labels: Array,
    ks: Sequence[SupportsIndex] = (1, 10, 20, 100, 200),
    temperatures: Sequence[float] = (0.1, 0.07),
) -> list[dict[str, int | float]]:
    """Accuracies at many settings, from one search at the largest k; see ``knn_accuracy``.

    Returns:
        A dict of k, temperature, top1 and top5 (percent) for each k and each temperature.
    """
    counted, images = _sweep(
        train_features, train_labels, test_features, test_labels, ks, temperatures
    )
    return [
        {"k": k, "temperature": t, "top1": 100 * hits[0] / images, "top5": 100 * hits[1] / images}
        for k, t, hits in counted
    ]


def knn_hits(
    train_features: Array,
    train_labels: Array,
    test_features: Array,
    test_labels: Array,
    k: SupportsIndex,
    temperature: float,
) -> tuple[int, int]:
    """Numbers of queries whose class is first and within the first five; see ``knn_accuracy``.

    Processes that share the queries can add up what they count.
    """
    counted, _ = _sweep(
        train_features, train_labels, test_features, test_labels, (k,), (temperature,)
    )
    return counted[0][2]


def _sweep(
    train_features: Array,
    train_labels: Array,
    test_features: Array,
    test_labels: Array,
    ks: Sequence[SupportsIndex],
    temperatures: Sequence[float],
) -> tuple[list[tuple[int, float, tuple[int, int]]], int]:
    """Each k and temperature with the numbers of correct queries, and the number of queries."""
    bank, queries = as_features("train", train_features), as_features("test", test_features)
    labels = as_labels("train", train_labels, bank), as_labels("test", test_labels, queries)
    counts, temperatures = [as_count("k", k) for k in ks], tuple(temperatures)
    if not counts or not temperatures or min(counts) < 1 or not min(temperatures) > 0:
        raise ValueError(
            f"got k {tuple(counts)} and temperature {temperatures}, expected at least one of "
            "each, k from 1 and temperature above 0"
        )
    similarities, indices = knn_search(queries, bank, max(counts))
    known, truth = numbered(*labels)
    found = [
        (k, t, _vote(similarities[:, :k], known[indices[:, :k]], truth, t))
        for k in counts
        for t in temperatures
    ]
    return found, len(truth)


def _vote(
    similarities: Float[Tensor, "q k"],
    votes: Int[Tensor, "q k"],
    truth: Int[Tensor, " q"],
    temperature: float,
) -> tuple[int, int]:
    """Numbers of queries whose class is first and within the first five."""
    classes = 1 + max(int(votes.max()), int(truth.max()))
    # Relative to the best neighbor, whose weight is 1: exp(s/T) itself could overflow.
    behind = similarities - similarities[:, :1]
    weights = torch.where(behind < 0, (behind / temperature).exp(), 1.0)  # T may be 0 in float32
    block = max(1, VOTE_BLOCK // classes)
    right = torch.zeros(2, dtype=torch.int64, device=truth.device)
    for w, v, t in zip(*(torch.split(x, block) for x in (weights, votes, truth)), strict=True):
        scores = w.new_zeros(len(v), classes).scatter_add_(1, v, w)
        voted = scores.gather(1, t[:, None]) > 0
        right += (within_top(scores, t) & voted).sum(dim=0)
    return int(right[0]), int(right[1])
