"""Inputs of the evaluators: tensors or arrays of any numeric type, checked once."""

import operator
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from numpy.typing import NDArray
from torch import Tensor

from mgd_ssl.matching import float64_device

Array = Tensor | NDArray[Any] | Sequence[Any]
# Four units in the last place of 1: the error of normalizing in float32.
UNIT_ROUNDING = 5e-7
# Row lengths whose squares neither overflow nor vanish in float32.
SHORTEST, LONGEST = 1e-15, 1e15


def as_tensor(name: str, x: object) -> Tensor:
    """A tensor or an array, as a dense tensor without gradient.

    Raises:
        ValueError: it is neither, or does not hold real numbers.
    """
    if isinstance(x, Tensor):
        if x.is_complex() or x.is_quantized:
            raise ValueError(f"{name}: got a tensor of {x.dtype}, expected real numbers")
        x = x.detach()
        return x if x.layout == torch.strided else x.to_dense()
    try:
        array = np.asarray(x)
    except ValueError as error:  # rows of several lengths
        raise ValueError(f"{name}: got {error}; expected a tensor or an array") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name}: got {type(x).__name__} of {array.dtype}, expected a tensor or an array of "
            "numbers; turn names of classes into numbers first: "
            "numpy.unique(names, return_inverse=True)[1]"
        )
    kind = np.dtype(np.float64) if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
    array = np.ascontiguousarray(array, dtype=kind)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def as_features(name: str, x: object) -> Float[Tensor, "n d"]:
    """Features (N,D) of any numeric type as float32, or as float64 if they are float64.

    Features on a device without float64 (MPS) are moved to the CPU, since figures are summed in
    float64.

    Raises:
        ValueError: they have not two dimensions, are empty, or are not numbers.
    """
    found = as_tensor(name, x)
    if found.ndim != 2 or found.numel() == 0:
        raise ValueError(
            f"{name}: got shape {tuple(found.shape)}, expected (rows, features), not empty"
        )
    found = found.to(float64_device(found.device))
    return found if found.dtype == torch.float64 else found.float()


def as_labels(
    name: str, labels: object, features: Tensor, *, unknown: bool = False
) -> Int64[Tensor, " n"]:
    """Classes (N,) of any numeric type, one for each row of features, as int64 on their device.

    Args:
        name: of the rows, for the message.
        labels: whole numbers from 0.
        features: (N,D).
        unknown: whether to accept negative labels, those of unlabeled rows.

    Raises:
        ValueError: the length differs, or a label is not a whole number, too large or negative.
    """
    found = as_tensor(f"{name} labels", labels)
    if found.shape != features.shape[:1]:
        raise ValueError(
            f"{name} labels: got shape {tuple(found.shape)} for {len(features)} rows of "
            "features, expected one label a row"
        )
    if found.is_floating_point():
        odd = (found != found.round()) | ~(found.abs() < 2**53)
        if odd.any():
            row = int(odd.nonzero()[0])
            raise ValueError(
                f"{name} labels: {int(odd.sum())} are not whole numbers, the first is "
                f"{float(found[row])} in row {row}; expected classes 0, 1, 2, …: leave out "
                "the rows whose class is unknown"
            )
    whole = found.to(torch.int64)
    if whole.numel() and int(whole.min()) < 0 and not unknown:
        raise ValueError(
            f"{name} labels: {int((whole < 0).sum())} are negative (unknown), expected classes "
            "from 0: leave the unlabeled rows out"
        )
    return whole.to(features.device)


def numbered(
    bank: Int[Tensor, " m"], queries: Int[Tensor, " q"]
) -> tuple[Int[Tensor, " m"], Int[Tensor, " q"]]:
    """Labels renumbered from 0 without gaps, so that absent classes take no memory.

    Classes that the bank lacks share the number after its own, which nothing predicts.
    """
    classes, numbers = torch.unique(bank, return_inverse=True)
    places = torch.searchsorted(classes, queries).clamp_max(len(classes) - 1)
    return numbers, torch.where(classes[places] == queries, places, len(classes))


def as_count(name: str, value: object) -> int:
    """A whole number of any integer type, as an int.

    Raises:
        ValueError: it is not a whole number.
    """
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise ValueError(f"{name}: got {value!r}, expected a whole number") from error


def check_pair(query: Tensor, bank: Tensor) -> None:
    """Raise a ValueError unless queries and bank have the same width and device."""
    if query.shape[1] != bank.shape[1]:
        raise ValueError(
            f"query has {query.shape[1]} features and bank {bank.shape[1]}, expected the same: "
            "take both from one network and layer"
        )
    if query.device != bank.device:
        raise ValueError(
            f"query is on {query.device} and bank on {bank.device}, expected the same: move one"
        )


def check_finite(name: str, x: Tensor) -> None:
    """Raise a ValueError that names the first row with NaN or infinity, if there is one."""
    bad = (~x.isfinite().all(dim=1)).nonzero()
    if len(bad):
        raise ValueError(
            f"{name}: {len(bad)} of {len(x)} rows hold NaN or inf, the first is row "
            f"{int(bad[0])}; expected finite features: look for a diverged network"
        )


def normalize(name: str, x: Tensor) -> Float[Tensor, "n d"]:
    """Rows of unit length in float32; rows of zeros stay zero, and a warning counts them.

    Rows whose squares are out of float32's range are scaled first. If all rows already have unit
    length, to float32's rounding, they are returned without a copy.

    Args:
        name: for messages.
        x: (N,D) float32 or float64.

    Raises:
        ValueError: a value is not finite.
    """
    lengths = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    extreme = ~((lengths > SHORTEST) & (lengths < LONGEST)).squeeze(1)
    if extreme.any():
        check_finite(name, x)
        x = x.clone()
        largest = x[extreme].abs().amax(dim=1, keepdim=True)
        x[extreme] = x[extreme] / largest.where(largest > 0, 1)
        lengths = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    zero = int((lengths == 0).sum())
    if zero:
        warnings.warn(
            f"{name}: {zero} of {len(x)} rows are all zeros; their cosine is taken as 0",
            stacklevel=3,
        )
    if x.dtype == torch.float32 and ((lengths - 1).abs() < UNIT_ROUNDING).all():
        return x.contiguous()
    unit: Tensor = x / lengths.where(lengths > 0, 1)
    return unit.float().contiguous()
