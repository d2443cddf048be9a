"""Pickled arrays are read whatever wrote them; nothing that a pickle asks for is run."""

import io
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch

from mgd_ssl.detection.numpy_pickle import read_numpy_pickle, write_numpy_pickle

ARRAYS = {
    "float": np.random.default_rng(0).normal(size=(3, 4)).astype("f4"),
    "half": np.ones((2, 2), "f2"),
    "double": np.arange(6.0).reshape(1, 6),
    "count": np.array(7),
    "flags": np.array([True, False]),
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "big-endian": np.arange(4, dtype=">f4"),
    "strided": np.arange(12, dtype="f4")[::3],
}


def dumped(tmp_path, content, protocol=4):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_come_as_tensors_with_the_same_values(protocol, tmp_path):
    content = {"model": OrderedDict(ARRAYS), "__author__": "a", "at": [1, 2.5, None, np.float32(3)]}
    read = read_numpy_pickle(dumped(tmp_path, content, protocol))
    assert read["__author__"] == "a"
    assert read["at"] == [1, 2.5, None, 3.0]
    assert read["model"].keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        expected = torch.from_numpy(np.array(array, array.dtype.newbyteorder("=")))
        assert read["model"][name].dtype == expected.dtype
        assert torch.equal(read["model"][name], expected)


def test_arrays_of_python_2_are_read(tmp_path):
    """Python 2 pickles an array's bytes as str; NumPy 1 names its module numpy.core."""
    raw = np.array([1.5, -2.0], "<f4").tobytes()
    text = b"".join(b"\\x%02x" % byte for byte in raw)
    stream = (
        b"(dp0\nS'w'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n(I2\ntcnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'"
        + text
        + b"'\ntbs."
    )
    path = tmp_path / "old.pkl"
    path.write_bytes(stream)
    assert read_numpy_pickle(path)["w"].tolist() == [1.5, -2.0]


def test_what_is_written_is_read_by_numpy_and_here(tmp_path):
    content = {
        "model": {k: torch.from_numpy(np.array(v, v.dtype.newbyteorder("="))) for k, v in
                  ARRAYS.items()},
        "__author__": "mgd_ssl",
        "matching_heuristics": True,
    }  # fmt: skip
    file = io.BytesIO()
    write_numpy_pickle(file, content)
    assert b"numpy._core" not in file.getvalue()  # which versions before 1.26 do not have
    plain = pickle.loads(file.getvalue())
    assert plain["matching_heuristics"] is True
    for name, array in ARRAYS.items():
        assert isinstance(plain["model"][name], np.ndarray)
        np.testing.assert_array_equal(plain["model"][name], array)
    path = tmp_path / "written.pkl"
    path.write_bytes(file.getvalue())
    read = read_numpy_pickle(path)["model"]
    assert all(torch.equal(read[k], v) for k, v in content["model"].items())


class Touch:
    """Pickles as a call that would leave a file behind."""

    def __init__(self, path, function):
        self.call = function, (str(path), "w")

    def __reduce__(self):
        return self.call


class Evaluates(Touch):
    def __init__(self, path, _):
        self.call = eval, (f"open({str(path)!r}, 'w')",)


@pytest.mark.parametrize("kind", [Touch, Evaluates])
def test_a_malicious_pickle_is_refused_and_not_run(kind, tmp_path):
    mark = tmp_path / "mark"
    path = dumped(tmp_path, {"model": {"w": np.ones(2)}, "x": kind(mark, open)})
    with pytest.raises(ValueError, match=r"holds a pickled .*, expected arrays only"):
        read_numpy_pickle(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())["x"].close()
    assert mark.exists()  # the attack itself does work


@pytest.mark.parametrize("array", [np.array([{}], object), np.array(["a"]), np.zeros(2, "i4,f4")])
def test_arrays_that_are_not_of_numbers_are_refused(array, tmp_path):
    with pytest.raises(ValueError, match="expected numbers"):
        read_numpy_pickle(dumped(tmp_path, {"w": array}))


def test_what_is_no_whole_pickle_of_a_dict_is_refused(tmp_path):
    path = dumped(tmp_path, {"w": np.ones(1000)})
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match="copy or download it again"):
        read_numpy_pickle(path)
    with pytest.raises(ValueError, match="holds a list, expected a dict"):
        read_numpy_pickle(dumped(tmp_path, [1]))
    with pytest.raises(ValueError, match="which is no file"):
        read_numpy_pickle(tmp_path / "absent.pkl")
