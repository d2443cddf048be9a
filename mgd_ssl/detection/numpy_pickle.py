"""Pickles of NumPy arrays, as Detectron2 and Caffe2 write them, read without running code."""

import copyreg
import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

KINDS = "biuf"  # booleans, integers, floating point


class _DType:
    """Stand-in for a pickled dtype; NumPy gets only a checked name from it."""

    def __init__(self, name: object, *_: object) -> None:
        self.dtype = np.dtype(name) if isinstance(name, str) else np.dtype("O")
        if self.dtype.kind not in KINDS:
            raise pickle.UnpicklingError(f"holds values of type {name!r}, expected numbers")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1] if state[1] in ("<", ">") else "=")


class _Array:
    """Stand-in for a pickled array until it has been read entirely."""

    def __init__(self, *_: object) -> None:
        self.tensor: Tensor | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        self.tensor = _tensor(raw, dtype, shape, "F" if fortran else "C")


def _tensor(raw: object, dtype: object, shape: tuple[int, ...], order: Any) -> Tensor:
    data = raw.encode("latin1") if isinstance(raw, str) else raw  # str: written by Python 2
    number = dtype if isinstance(dtype, _DType) else _DType(dtype)
    array = np.frombuffer(data, number.dtype).reshape(shape, order=order)  # type: ignore[call-overload]
    return torch.from_numpy(np.array(array, number.dtype.newbyteorder("="), order="C"))


def _array(shape: tuple[int, ...], dtype: object, raw: object) -> Tensor:
    """Stand-in for numpy.ndarray(shape, dtype, buffer)."""
    return _tensor(raw, dtype, shape, "C")


def _from_buffer(raw: object, dtype: object, shape: tuple[int, ...], order: str) -> Tensor:
    return _tensor(raw, dtype, shape, order)


def _scalar(dtype: object, raw: object) -> float | int | bool:
    return _tensor(raw, dtype, (), "C").item()


def _encode(text: str, *_: object) -> bytes:
    """Stand-in for _codecs.encode, with which Python 3 writes bytes in old protocols."""
    return text.encode("latin1")


_NUMPY_CORE = {"_reconstruct": _Array, "scalar": _scalar, "_frombuffer": _from_buffer}
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _array,
    ("numpy", "dtype"): _DType,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytearray"): bytearray,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module in ("multiarray", "numeric")
        for name, stand_in in _NUMPY_CORE.items()
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise pickle.UnpicklingError(
            f"holds a pickled {module}.{name}, expected arrays only; loading it could run code"
        )


def read_numpy_pickle(path: Path) -> dict[str, Any]:
    """Read a pickled dict of arrays and plain values, with arrays as tensors.

    Raises:
        ValueError: the file is missing or damaged, or holds other objects; these are not executed.
    """
    if not path.is_file():
        raise ValueError(f"checkpoint: got {path}, which is no file; expected a checkpoint's path")
    try:
        content = _plain(_Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load())
    except Exception as error:  # a damaged pickle can raise any exception
        raise ValueError(
            f"checkpoint: {path} cannot be read: {error}; expected a whole pickle of NumPy arrays, "
            "as Detectron2 writes; copy or download it again, or save its weights as tensors"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"checkpoint: {path} holds a {type(content).__name__}, expected a dict of arrays"
        )
    return content


def _plain(value: Any) -> Any:
    if isinstance(value, _Array):
        if value.tensor is None:
            raise pickle.UnpicklingError("holds an array without data")
        return value.tensor
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return type(value)(map(_plain, value)) if isinstance(value, list | tuple) else value


def write_numpy_pickle(file: IO[bytes], content: Mapping[str, Any]) -> None:
    """Write a dict with its tensors as arrays that every version of NumPy can read.

    NumPy 2 pickles an array by a module that versions before 1.26 do not have; these pickles call
    numpy.ndarray instead.
    """
    pickler = pickle.Pickler(file, protocol=4)
    pickler.dispatch_table = copyreg.dispatch_table.copy()
    pickler.dispatch_table[np.ndarray] = _reduced
    pickler.dump(_arrays(content))


def _reduced(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    return np.ndarray, (array.shape, array.dtype.str, bytearray(array.tobytes()))


def _arrays(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _arrays(item) for key, item in value.items()}
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value
