"""Nearest neighbors and their vote, against float64 brute force and hand figures."""

import math

import faiss
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mgd_ssl.evaluation import knn, knn_accuracy, knn_search
from mgd_ssl.evaluation.knn import knn_sweep


def rows(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def brute_force(query: Tensor, bank: Tensor, k: int) -> tuple[Tensor, Tensor]:
    cosines = F.normalize(query.double(), dim=1) @ F.normalize(bank.double(), dim=1).T
    ranked = cosines.sort(dim=1, descending=True, stable=True)
    return ranked.values[:, :k], ranked.indices[:, :k]


@pytest.mark.parametrize(("queries", "k"), [(1, 1), (7, 5), (300, 200), (40, 500)])
def test_search_agrees_with_brute_force(queries: int, k: int) -> None:
    query, bank = rows(queries, 24, 1), rows(500, 24, 2)
    similarities, indices = knn_search(query, bank, k)
    expected, expected_indices = brute_force(query, bank, k)
    assert similarities.dtype == torch.float32 and indices.dtype == torch.int64
    torch.testing.assert_close(similarities.double(), expected, atol=1e-6, rtol=0)
    # float32 may swap two neighbors that agree to 1e-7; each place still holds the right cosine
    own = brute_force(query, bank, 500)
    cosines = torch.empty_like(own[0]).scatter_(1, own[1], own[0])
    torch.testing.assert_close(cosines.gather(1, indices), expected, atol=1e-6, rtol=0)
    assert (indices == expected_indices).double().mean() > 0.99
    assert (similarities.diff(dim=1) <= 0).all()


def test_search_does_not_depend_on_the_lengths_of_rows() -> None:
    query, bank = rows(9, 6, 1), rows(50, 6, 2)
    scale = torch.logspace(-6, 6, 50)[:, None]
    plain, scaled = knn_search(query, bank, 4), knn_search(query * 1e5, bank * scale, 4)
    assert torch.equal(plain[1], scaled[1])
    torch.testing.assert_close(plain[0], scaled[0])


def test_unit_rows_are_not_copied_and_one_that_is_not_is_normalized() -> None:
    bank = F.normalize(rows(500, 512, 2), dim=1)
    assert knn.normalize("bank", bank).data_ptr() == bank.data_ptr()
    bank[3] *= 1 + 1e-5
    lengths = knn.normalize("bank", bank).double().norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(500).double(), atol=3e-7, rtol=0)


def test_search_leaves_its_inputs_as_they_were() -> None:
    query, bank = rows(9, 6, 1), rows(50, 6, 2)
    before = query.clone(), bank.clone()
    knn_search(query, bank, 4)
    assert torch.equal(query, before[0]) and torch.equal(bank, before[1])


def test_search_takes_other_floating_types_and_views() -> None:
    query, bank = rows(5, 12, 1), rows(60, 12, 2)
    expected = knn_search(query, bank, 7)[1]
    assert torch.equal(knn_search(query.double(), bank.double(), 7)[1], expected)
    strided = torch.stack([bank, bank], dim=2)[:, :, 0]
    assert torch.equal(knn_search(query.requires_grad_(), strided, 7)[1], expected)
    assert knn_search(query.half(), bank.half(), 7)[0].dtype == torch.float32


@pytest.mark.parametrize(("query_block", "bank_block"), [(1000, 1000), (7, 1000), (64, 13), (1, 1)])
def test_blocks_of_the_torch_search_give_the_whole(query_block: int, bank_block: int) -> None:
    query, bank = F.normalize(rows(70, 8, 1), dim=1), F.normalize(rows(130, 8, 2), dim=1)
    found = knn._search_by_blocks(query, bank, 20, query_block, bank_block)
    expected = knn_search(query, bank, 20)
    torch.testing.assert_close(found[0], expected[0], atol=1e-6, rtol=0)
    assert (found[1] == expected[1]).double().mean() > 0.99


def test_torch_search_computes_in_float32_under_autocast_and_tf32() -> None:
    query, bank = F.normalize(rows(30, 64, 1), dim=1), F.normalize(rows(90, 64, 2), dim=1)
    flags = torch.backends.cuda.matmul
    before = flags.fp32_precision
    flags.fp32_precision = "tf32"
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = knn._search_by_blocks(query, bank, 5)
        assert flags.fp32_precision == "tf32"
    finally:
        flags.fp32_precision = before
    torch.testing.assert_close(found[0].double(), brute_force(query, bank, 5)[0], atol=1e-6, rtol=0)


def test_a_row_of_zeros_is_at_cosine_zero_and_warned_of() -> None:
    bank = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    with pytest.warns(UserWarning, match="bank: 1 of 3 rows are all zeros"):
        similarities, indices = knn_search(torch.tensor([[2.0, 0.0]]), bank, 3)
    assert similarities.tolist() == [[1.0, 0.0, -1.0]] and indices.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("which", ["query", "bank"])
def test_non_finite_features_are_refused_by_row(bad: float, which: str) -> None:
    inputs = {"query": rows(5, 4, 1), "bank": rows(50, 4, 2)}
    inputs[which][3, 2] = bad
    with pytest.raises(ValueError, match=f"{which}: 1 of .* first is row 3"):
        knn_search(inputs["query"], inputs["bank"], 2)


@pytest.mark.parametrize("k", [0, -1, 51])
def test_k_outside_the_bank_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"k: got {k}, expected 1 to 50"):
        knn_search(rows(5, 4, 1), rows(50, 4, 2), k)


@pytest.mark.parametrize(
    ("query", "bank", "message"),
    [
        (rows(5, 4, 1), rows(50, 3, 2), "query has 4 features and bank 3"),
        (rows(0, 4, 1), rows(50, 4, 2), r"query: got shape \(0, 4\)"),
        (rows(5, 4, 1), rows(0, 4, 2), r"bank: got shape \(0, 4\)"),
        (rows(5, 4, 1)[0], rows(50, 4, 2), r"query: got shape \(4,\)"),
    ],
)
def test_features_that_do_not_fit_are_refused(query: Tensor, bank: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        knn_search(query, bank, 1)


# The bank's angles to the one query are 0, 60, 60 and 180 degrees.
BANK = torch.tensor([[1.0, 0.0], [0.5, math.sqrt(0.75)], [0.5, -math.sqrt(0.75)], [-1.0, 0.0]])
LABELS = torch.tensor([0, 1, 1, 2])


def test_the_vote_by_hand() -> None:
    query = torch.tensor([[3.0, 0.0]])
    # T = 1: class 0 has e^1 = 2.718, class 1 has 2·e^0.5 = 3.297, class 2 has e^-1 = 0.368
    first = {c: knn_accuracy(BANK, LABELS, query, torch.tensor([c]), 4, 1.0) for c in (0, 1, 2)}
    assert [first[c]["top1"] for c in (0, 1, 2)] == [0.0, 100.0, 0.0]
    assert [first[c]["top5"] for c in (0, 1, 2)] == [100.0, 100.0, 100.0]
    # T = 0.1: e^10 outweighs 2·e^5
    assert knn_accuracy(BANK, LABELS, query, torch.tensor([0]), 4, 0.1)["top1"] == 100.0
    # k = 1: class 0 alone has a vote, so no other is among the five
    assert knn_accuracy(BANK, LABELS, query, torch.tensor([1]), 1, 1.0)["top5"] == 0.0


def vote_by_loops(
    similarities: Tensor, votes: Tensor, truth: Tensor, k: int, temperature: float
) -> tuple[float, float]:
    hits = [0, 0]
    for s, v, t in zip(similarities.double(), votes, truth, strict=True):
        scores: dict[int, float] = {}
        for cosine, label in zip(s[:k].tolist(), v[:k].tolist(), strict=True):
            scores[label] = scores.get(label, 0.0) + math.exp(cosine / temperature)
        ranked = sorted(scores, key=lambda label: -scores[label])
        hits[0] += int(t) == ranked[0]
        hits[1] += int(t) in ranked[:5]
    return 100 * hits[0] / len(truth), 100 * hits[1] / len(truth)


def test_sweep_agrees_with_the_formula_and_with_single_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(knn, "VOTE_BLOCK", 100)  # blocks of a few queries
    labels, truth = torch.arange(300) % 12, torch.arange(80) % 12
    centers = rows(12, 16, 0)
    train, test = centers[labels] + 3 * rows(300, 16, 1), centers[truth] + 3 * rows(80, 16, 2)
    similarities, indices = brute_force(test, train, 100)
    found = knn_sweep(train, labels, test, truth, (1, 10, 100), (0.1, 0.07))
    assert [(row["k"], row["temperature"]) for row in found] == [
        (k, t) for k in (1, 10, 100) for t in (0.1, 0.07)
    ]
    for row in found:
        k, temperature = int(row["k"]), row["temperature"]
        expected = vote_by_loops(similarities, labels[indices], truth, k, temperature)
        assert (row["top1"], row["top5"]) == pytest.approx(expected)
        single = knn_accuracy(train, labels, test, truth, k, temperature)
        assert single == {"top1": row["top1"], "top5": row["top5"]}
    assert 20 < found[-1]["top1"] < found[-1]["top5"] < 100


@pytest.mark.parametrize("temperature", [1e-3, 1e-50])  # the second is 0 in float32
def test_a_tiny_temperature_lets_the_nearest_alone_vote(temperature: float) -> None:
    found = knn_accuracy(BANK, LABELS, BANK, LABELS, 4, temperature)
    assert found == {"top1": 100.0, "top5": 100.0}


def test_a_class_unknown_to_the_bank_counts_as_wrong() -> None:
    assert knn_accuracy(BANK, LABELS, BANK[:1], torch.tensor([9]), 4, 0.1)["top5"] == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": torch.tensor([0, 1, -1, 2])}, "train labels: 1 are negative"),
        ({"k": 5}, "k: got 5, expected 1 to 4"),
        ({"temperature": 0.0}, "temperature above 0"),
    ],
)
def test_bad_votes_are_refused(changes: dict, message: str) -> None:
    good = {
        "train_features": BANK,
        "train_labels": LABELS,
        "test_features": BANK,
        "test_labels": LABELS,
        "k": 2,
    }
    with pytest.raises(ValueError, match=message):
        knn_accuracy(**(good | changes))


def test_labels_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"test labels: got shape \(3,\) for 4 rows"):
        knn_accuracy(BANK, LABELS, BANK, LABELS[:3], 2)


def test_blocks_of_queries_find_what_one_search_finds() -> None:
    query, bank = F.normalize(rows(2 * 4096 + 7, 32, 0)), F.normalize(rows(500, 32, 1))
    cosines, nearest = faiss.knn(query.numpy(), bank.numpy(), 5, faiss.METRIC_INNER_PRODUCT)
    similarities, indices = knn_search(query, bank, 5)
    assert np.array_equal(indices.numpy(), nearest)
    assert np.array_equal(similarities.numpy(), cosines.clip(-1, 1))
