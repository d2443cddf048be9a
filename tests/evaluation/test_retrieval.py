"""Retrieval figures against hand figures and a plain loop over rankings."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mgd_ssl.evaluation import knn_search, retrieval
from mgd_ssl.evaluation.retrieval import neighbors, retrieval_scores


def rows(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def classes(n: int, count: int, seed: int) -> Tensor:
    return torch.randint(count, (n,), generator=torch.Generator().manual_seed(seed))


def average_precision_by_recall(scores: list[float], relevant: list[bool]) -> float:
    """Sum over the ranking of (recall gained) × precision, as scikit-learn defines it."""
    ranked = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    total, hits, recall = sum(relevant), 0, 0.0
    area = 0.0
    for place, i in enumerate(ranked, start=1):
        hits += relevant[i]
        area += (hits / total - recall) * hits / place
        recall = hits / total
    return area


def expected_scores(
    query: Tensor, bank: Tensor, labels: Tensor, bank_labels: Tensor, own: Tensor | None
) -> dict[str, float]:
    cosines = F.normalize(query.double(), dim=1) @ F.normalize(bank.double(), dim=1).T
    averages, precisions = [], []
    for q in range(len(query)):
        kept = [m for m in range(len(bank)) if own is None or m != int(own[q])]
        relevant = [bool(bank_labels[m] == labels[q]) for m in kept]
        scores = [float(cosines[q, m]) for m in kept]
        if any(relevant):
            averages.append(average_precision_by_recall(scores, relevant))
        nearest = sorted(range(len(kept)), key=lambda i: -scores[i])[:3]
        precisions.append(sum(relevant[i] for i in nearest) / 3)
    return {
        "precision@3": 100 * sum(precisions) / len(precisions),
        "map": 100 * sum(averages) / len(averages),
        "queries_without_match": float(len(query) - len(averages)),
    }


@pytest.mark.parametrize("block", [1 << 23, 130, 1])
def test_scores_agree_with_a_loop_over_rankings(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "RANK_BLOCK", block)
    query, bank, labels = rows(20, 5, 1), rows(60, 5, 2), classes(20, 4, 3)
    bank_labels = classes(60, 3, 4)  # class 3 of the queries has no match
    found = retrieval_scores(query, bank, labels, bank_labels, ks=(3,))
    assert found == pytest.approx(expected_scores(query, bank, labels, bank_labels, None))
    assert found["queries_without_match"] == int((labels == 3).sum()) > 0


def test_a_query_among_the_bank_can_be_left_out() -> None:
    bank, labels, own = rows(40, 5, 2), classes(40, 4, 4), torch.arange(40)
    found = retrieval_scores(bank, bank, labels, labels, ks=(3,), own_rows=own)
    assert found == pytest.approx(expected_scores(bank, bank, labels, labels, own))
    part = torch.tensor([7, 31])
    found = retrieval_scores(bank[part], bank, labels[part], labels, ks=(3,), own_rows=part)
    assert found == pytest.approx(expected_scores(bank[part], bank, labels[part], labels, part))


@pytest.mark.parametrize(
    ("relevant", "expected"),
    [([1, 0, 1, 0], (1 + 2 / 3) / 2), ([0, 0, 0, 1], 1 / 4), ([1, 1, 1, 1], 1.0)],
)
def test_average_precision_by_hand(relevant: list[int], expected: float) -> None:
    similarities, mask = torch.tensor([0.9, 0.5, 0.1, -0.3]), torch.tensor(relevant).bool()
    assert float(retrieval.average_precision(similarities, mask)) == pytest.approx(expected)
    shuffled = torch.tensor([2, 0, 3, 1])
    found = retrieval.average_precision(similarities[shuffled], mask[shuffled])
    assert float(found) == pytest.approx(expected)


def test_images_of_equal_cosine_share_their_last_place() -> None:
    similarities, relevant = torch.tensor([0.9, 0.5, 0.5, 0.5]), torch.tensor([1, 0, 1, 1]).bool()
    found = retrieval.average_precision(similarities, relevant)
    assert float(found) == pytest.approx((1 + 3 / 4 + 3 / 4) / 3)


def test_average_precision_without_a_relevant_image_is_nan() -> None:
    assert retrieval.average_precision(torch.rand(3), torch.zeros(3).bool()).isnan()


def test_precision_by_hand() -> None:
    # one query at 0 degrees; the bank at 10, 20, 30, 40 degrees is of classes 1, 0, 1, 1
    angles = torch.deg2rad(torch.tensor([10.0, 20, 30, 40]))
    bank = torch.stack([angles.cos(), angles.sin()], dim=1)
    query, labels = torch.tensor([[1.0, 0.0]]), torch.tensor([1, 0, 1, 1])
    found = retrieval_scores(query, bank, torch.tensor([1]), labels, ks=(1, 2, 4))
    assert found["precision@1"] == 100 and found["precision@2"] == 50
    assert found["precision@4"] == 75
    assert found["map"] == pytest.approx(100 * (1 + 2 / 3 + 3 / 4) / 3)


def test_neighbors_leave_the_query_out() -> None:
    bank = rows(30, 4, 1)
    found = neighbors(bank, bank, 5, torch.arange(30))
    whole = knn_search(bank, bank, 6)
    assert (found.indices != torch.arange(30)[:, None]).all()
    assert torch.equal(found.indices, whole[1][:, 1:])
    assert torch.equal(found.similarities, whole[0][:, 1:])


def test_neighbors_of_equal_images_are_still_k_others() -> None:
    bank = torch.ones(12, 3)
    found = neighbors(bank, bank, 4, torch.arange(12)).indices
    assert found.shape == (12, 4)
    assert all(len({i, *line}) == 5 for i, line in enumerate(found.tolist()))


def test_neighbors_without_own_rows_are_those_of_the_search() -> None:
    query, bank = rows(3, 4, 1), rows(30, 4, 2)
    assert torch.equal(neighbors(query, bank, 5).indices, knn_search(query, bank, 5)[1])


def test_bad_requests_are_refused() -> None:
    bank, labels, own = rows(10, 4, 1), classes(10, 2, 1), torch.arange(10)
    with pytest.raises(ValueError, match=r"ks: got \(1, 10\), expected each in 1 to 9"):
        retrieval_scores(bank, bank, labels, labels, ks=(1, 10), own_rows=own)
    with pytest.raises(ValueError, match="k: got 10, expected 1 to 9"):
        neighbors(bank, bank, 10, own)
    with pytest.raises(ValueError, match="no query has an image of its class"):
        retrieval_scores(bank, bank, labels + 5, labels, ks=(1,))
    with pytest.raises(ValueError, match="bank labels: 10 are negative"):
        retrieval_scores(bank, bank, labels, labels - 5, ks=(1,))
