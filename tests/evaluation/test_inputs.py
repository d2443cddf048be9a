"""What NumPy users hand over: every numeric type, or a message that says what to do."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mgd_ssl.evaluation import knn_accuracy, knn_search, linear_probe
from mgd_ssl.evaluation.health import effective_rank, linear_cka, neighbor_overlap
from mgd_ssl.evaluation.inputs import as_count, as_features, normalize
from mgd_ssl.evaluation.retrieval import neighbors, retrieval_scores

X = torch.randn(60, 16, generator=torch.Generator().manual_seed(0))
Y = torch.arange(60) % 3
SETTINGS = {"epochs": 3, "batch_size": 16}
TYPES = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.float16, torch.float32]


@pytest.mark.parametrize("dtype", [*TYPES, torch.float64])
def test_labels_of_every_type_give_the_figures_of_int64(dtype: torch.dtype) -> None:
    y = Y.to(dtype)
    assert knn_accuracy(X, y, X, y, k=5) == knn_accuracy(X, Y, X, Y, k=5)
    assert linear_probe(X, y, X, y, **SETTINGS) == linear_probe(X, Y, X, Y, **SETTINGS)
    assert retrieval_scores(X, X, y, y) == retrieval_scores(X, X, Y, Y)


def test_flags_are_two_classes() -> None:
    assert knn_accuracy(X, Y > 0, X, Y > 0, k=5) == knn_accuracy(X, (Y > 0).long(), X, Y.sign(), 5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (Y + 0.5, r"train labels: 60 are not whole numbers, the first is 0\.5 in row 0"),
        (torch.where(Y == 0, math.nan, Y), r"20 are not whole numbers, the first is nan"),
        (torch.where(Y == 1, math.inf, Y), r"the first is inf in row 1"),
        (-Y, r"train labels: 40 are negative \(unknown\)"),
        (Y[:-1], r"train labels: got shape \(59,\) for 60 rows"),
        (Y[:, None], r"train labels: got shape \(60, 1\)"),
        (np.array(["cat"] * 60), r"train labels: got ndarray of <U3, expected .* numpy\.unique"),
        (Y * 1j, r"complex64, expected real numbers"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        knn_accuracy(X, labels, X, Y, k=5)
    with pytest.raises(ValueError, match=message):
        linear_probe(X, labels, X, Y, **SETTINGS)
    with pytest.raises(ValueError, match=message.replace("train", "bank")):
        retrieval_scores(X, X, Y, labels)


def test_large_class_numbers_take_no_memory() -> None:
    far = Y * 10**15
    assert knn_accuracy(X, far, X, far, k=5) == knn_accuracy(X, Y, X, Y, k=5)
    assert linear_probe(X, far, X, far, **SETTINGS) == linear_probe(X, Y, X, Y, **SETTINGS)


def test_arrays_are_taken_as_tensors_are() -> None:
    x, y = X.numpy(), Y.numpy()
    expected = knn_accuracy(X, Y, X, Y, k=5)
    backwards = x[::-1], y[::-1]  # negative strides
    assert knn_accuracy(*backwards, x, y, k=np.int64(5)) == expected
    frozen = x.astype(">f8")
    frozen.flags.writeable = False
    assert knn_accuracy(frozen, y.astype(np.uint16), x.tolist(), y.tolist(), k=5) == expected
    assert linear_probe(x, y, x, y, **SETTINGS) == linear_probe(X, Y, X, Y, **SETTINGS)
    own = np.arange(60)
    found = neighbors(x, x, 4, own)
    assert torch.equal(found.indices, neighbors(X, X, 4, torch.arange(60)).indices)
    assert retrieval_scores(x, x, y, y, own_rows=own) == retrieval_scores(
        X, X, Y, Y, own_rows=torch.arange(60)
    )
    assert effective_rank(x) == effective_rank(X) and linear_cka(x, x) == pytest.approx(1)
    assert neighbor_overlap(x, x) == 1


def test_whole_numbers_flags_and_halves_are_features_too() -> None:
    x = (8 * X).round()
    expected = knn_search(x, x, 5)[0]
    for other in (x.to(torch.int8), x.half(), x.to(torch.int64), x.T.contiguous().T, x.double()):
        torch.testing.assert_close(knn_search(other, other, 5)[0], expected)
    assert knn_search(X > 0, X > 0, 1)[0].max() <= 1
    assert torch.equal(knn_search(x.to_sparse(), x, 5)[0], expected)


def test_cosines_are_at_most_one() -> None:
    x = torch.randn(2000, 512, generator=torch.Generator().manual_seed(0))
    similarities, _ = knn_search(x, x, 1)
    assert float(similarities.max()) <= 1 and float(similarities.min()) > 1 - 1e-6
    assert float(knn_search(x, -x, 2000)[0].min()) >= -1


@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e-20, 1e20, 1e30, 1e37])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_any_length_keep_their_direction(
    scale: float, dtype: torch.dtype, recwarn: pytest.WarningsRecorder
) -> None:
    x = X.to(dtype, copy=True)
    x[::2] *= scale
    exact = F.normalize(x.double() / x.double().abs().amax(dim=1, keepdim=True), dim=1)
    assert not recwarn
    torch.testing.assert_close(normalize("x", x).double(), exact, atol=2e-7, rtol=0)


def test_long_rows_of_doubles_do_not_overflow() -> None:
    x = X.double() * 1e200
    torch.testing.assert_close(knn_search(x, X, 5)[0], knn_search(X, X, 5)[0])


@pytest.mark.parametrize("k", [0, -1, 61])
def test_k_is_a_whole_number_within_the_bank(k: Any) -> None:
    for search in (knn_search, neighbors):
        with pytest.raises(ValueError, match=f"k: got {k}, expected 1 to 60"):
            search(X, X, k)
    for other in (2.5, "5", None):  # the annotations would answer first under test
        with pytest.raises(ValueError, match=f"k: got {other!r}, expected a whole number"):
            as_count("k", other)
    assert as_count("k", np.uint8(7)) == 7


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (X[:0], r"got shape \(0, 16\), expected \(rows, features\), not empty"),
        (X[:, :0], r"got shape \(60, 0\)"),
        (X[0], r"got shape \(16,\)"),
        (np.array([["a", "b"]]), "of <U1, expected a tensor or an array of numbers"),
        ([[1.0, 2.0], [1.0]], "expected a tensor or an array"),
        (X * math.nan, "60 of 60 rows hold NaN or inf"),
    ],
)
def test_features_that_are_none_are_refused(features: Any, message: str) -> None:
    for call in (
        lambda: knn_accuracy(features, Y, X, Y, k=1),
        lambda: knn_accuracy(X, Y, features, Y, k=1),
        lambda: linear_probe(features, Y, X, Y),
        lambda: retrieval_scores(features, X, Y, Y),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_nothing_at_all_is_no_features() -> None:
    with pytest.raises(ValueError, match="bank: got NoneType of object, expected a tensor or an"):
        as_features("bank", None)


def test_own_rows_are_rows_of_the_bank() -> None:
    with pytest.raises(ValueError, match="own_rows: got 1 to 60, expected rows of the bank: 0 to"):
        neighbors(X, X, 3, torch.arange(1, 61))
