"""k nearest neighbours by cosine, exact, and the weighted vote that turns them into accuracy."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import faiss
import torch
from jaxtyping import Float, Int
from torch import Tensor

# Rows of the blocks on the GPU: the similarities of one block are 1024 × 65,536 floats, 256 MiB.
QUERY_BLOCK, BANK_BLOCK = 1024, 65_536
# Four units in the last place of 1: what normalising in float32 leaves.
UNIT_ROUNDING = 5e-7
# Votes (queries × classes) held at once.
VOTE_BLOCK = 1 << 24


def knn_search(
    query: Float[Tensor, "q d"], bank: Float[Tensor, "m d"], k: int
) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """Find the k rows of the bank most alike to each query by cosine, exactly.

    The CPU search is faiss's, the GPU search torch's by blocks: neither ever holds the whole
    matrix of similarities. Rows need not be normalised. A row of zeros has no direction: its
    cosine to everything is taken as 0, and a warning counts such rows. Rows of equal cosine come
    in any order.

    Args:
        query: features to look up, (Q,D), any floating type; the search itself is in float32.
        bank: features to look among, (M,D), on the same device.
        k: neighbours of each query, 1 ≤ k ≤ M.

    Returns:
        Cosines (Q,k) float32 in [-1,1], descending along a row, and rows of the bank (Q,k) int64.

    Raises:
        ValueError: a matrix is empty, holds a non-finite value, the two differ in D or device,
            or k is not in 1..M.
    """
    check_pair(query, bank)
    if not 1 <= k <= len(bank):
        raise ValueError(
            f"k: got {k}, expected 1 to {len(bank)}, the rows of the bank: "
            "take a smaller k or a larger bank"
        )
    query, bank = normalise("query", query), normalise("bank", bank)
    if query.device.type == "cpu":
        # faiss brings an OpenMP of its own, which does not hear torch.set_num_threads.
        faiss.omp_set_num_threads(torch.get_num_threads())
        similarities, indices = faiss.knn(
            query.numpy(), bank.numpy(), k, metric=faiss.METRIC_INNER_PRODUCT
        )
        return torch.from_numpy(similarities), torch.from_numpy(indices)
    return _search_by_blocks(query, bank, k)


def check_pair(query: Tensor, bank: Tensor) -> None:
    """Raise a ValueError unless one matrix of features can be looked up in the other."""
    for name, x in (("query", query), ("bank", bank)):
        if x.ndim != 2 or x.numel() == 0:
            raise ValueError(
                f"{name}: got shape {tuple(x.shape)}, expected (rows, features), not empty"
            )
    if query.shape[1] != bank.shape[1]:
        raise ValueError(
            f"query has {query.shape[1]} features and bank {bank.shape[1]}, expected the same: "
            "take both from one network and layer"
        )
    if query.device != bank.device:
        raise ValueError(
            f"query is on {query.device} and bank on {bank.device}, expected the same: move one"
        )


def normalise(name: str, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows of unit length in float32; rows of zeros stay, and a warning counts them.

    Rows that all have unit length to float32's rounding are returned as they are, not copied.

    Raises:
        ValueError: a row holds a value that is not finite, or too large to square.
    """
    x = x.detach().float()
    norms = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    bad = (~norms.isfinite()).squeeze(1)
    if bad.any():
        raise ValueError(
            f"{name}: {int(bad.sum())} of {len(x)} rows hold NaN, inf or values whose squares "
            f"overflow float32, the first is row {int(bad.nonzero()[0])}; expected finite "
            "features: look for a diverged network"
        )
    zero = int((norms == 0).sum())
    if zero:
        warnings.warn(
            f"{name}: {zero} of {len(x)} rows are all zeros; their cosine is taken as 0",
            stacklevel=3,
        )
    if ((norms - 1).abs() < UNIT_ROUNDING).all():
        return x.contiguous()
    unit: Tensor = x / norms.clamp_min(torch.finfo(torch.float32).tiny)
    return unit.contiguous()


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Matrix products without TF32 and autocast, whatever training chose: 10 bits misrank."""
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
        found = [_search_one_block(rows, bank, k, bank_block) for rows in blocks]
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
    train_features: Float[Tensor, "m d"],
    train_labels: Int[Tensor, " m"],
    test_features: Float[Tensor, "q d"],
    test_labels: Int[Tensor, " q"],
    k: int = 200,
    temperature: float = 0.1,
) -> dict[str, float]:
    """Accuracy of the weighted k nearest neighbour vote, exp(cosine / temperature) a neighbour.

    Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018.

    Args:
        train_features: the bank, (M,D).
        train_labels: its classes, (M,), 0 or more.
        test_features: the queries, (Q,D).
        test_labels: their classes, (Q,).
        k: neighbours that vote, 1 ≤ k ≤ M.
        temperature: of the weights, above 0.

    Returns:
        ``top1`` and ``top5`` in percent. A class without a vote is never among the five.

    Raises:
        ValueError: as ``knn_search``; labels do not fit the features or are negative; the
            temperature is not above 0.
    """
    row = knn_sweep(train_features, train_labels, test_features, test_labels, (k,), (temperature,))[
        0
    ]
    return {"top1": row["top1"], "top5": row["top5"]}


def knn_sweep(
    train_features: Float[Tensor, "m d"],
    train_labels: Int[Tensor, " m"],
    test_features: Float[Tensor, "q d"],
    test_labels: Int[Tensor, " q"],
    ks: Sequence[int] = (1, 10, 20, 100, 200),
    temperatures: Sequence[float] = (0.1, 0.07),
) -> list[dict[str, int | float]]:
    """Accuracies of many settings from one search at the largest k; see ``knn_accuracy``.

    Returns:
        A dict of k, temperature, top1 and top5 (percent) for each k and each temperature.
    """
    check_labels("train", train_features, train_labels)
    check_labels("test", test_features, test_labels)
    if not ks or not temperatures or min(ks) < 1 or min(temperatures) <= 0:
        raise ValueError(
            f"got k {tuple(ks)} and temperature {tuple(temperatures)}, expected at least one of "
            "each, k from 1 and temperature above 0"
        )
    similarities, indices = knn_search(test_features, train_features, max(ks))
    votes = train_labels.to(indices.device)[indices]
    truth = test_labels.to(indices.device)
    rows: list[dict[str, int | float]] = []
    for k in ks:
        for temperature in temperatures:
            top1, top5 = _vote(similarities[:, :k], votes[:, :k], truth, temperature)
            rows.append({"k": k, "temperature": temperature, "top1": top1, "top5": top5})
    return rows


def check_labels(name: str, features: Tensor, labels: Tensor) -> None:
    """Raise a ValueError unless there is one class, 0 or more, for each row of features."""
    if labels.shape != features.shape[:1]:
        raise ValueError(
            f"{name} labels: got shape {tuple(labels.shape)} for {len(features)} rows of "
            "features, expected one label a row"
        )
    if labels.numel() and int(labels.min()) < 0:
        raise ValueError(
            f"{name} labels: {int((labels < 0).sum())} are negative (unknown), expected classes "
            "from 0: leave the unlabelled rows out"
        )


def _vote(
    similarities: Float[Tensor, "q k"],
    votes: Int[Tensor, "q k"],
    truth: Int[Tensor, " q"],
    temperature: float,
) -> tuple[float, float]:
    """Top-1 and top-5 accuracy in percent."""
    classes = 1 + max(int(votes.max()), int(truth.max()))
    # The best neighbour weighs 1: the ratios are those of exp(s/T), and nothing overflows.
    weights = ((similarities - similarities[:, :1]) / temperature).exp()
    block = max(1, VOTE_BLOCK // classes)
    right = torch.zeros(2, dtype=torch.int64, device=truth.device)
    for w, v, t in zip(*(torch.split(x, block) for x in (weights, votes, truth)), strict=True):
        scores = w.new_zeros(len(v), classes).scatter_add_(1, v, w)
        top = scores.topk(min(5, classes), dim=1)
        hit = (top.indices == t[:, None]) & (top.values > 0)
        right += torch.stack([hit[:, :1].sum(), hit.sum()])
    top1, top5 = (100 * right.double() / len(truth)).tolist()
    return top1, top5
