"""``.npz``: arrays ``features``, ``files``, ``labels`` and ``metadata`` for NumPy."""

import zipfile
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mgd_ssl.exporting.feature_files.table import FeatureFile, FeatureTable


class Npz(FeatureFile):
    """As ``numpy.savez`` writes it, and ``numpy.load`` reads it."""

    @staticmethod
    def write(file: IO[bytes], table: FeatureTable) -> None:
        """Write one array after the other, without compression."""
        shape = (len(table.files), table.dimension)
        with zipfile.ZipFile(file, "w") as archive:
            with _entry(archive, "features") as entry:
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                npy.write_array_header_2_0(entry, header)
                for rows in table.parts():
                    entry.write(np.ascontiguousarray(rows, dtype="<f4").tobytes())
            _write(archive, "files", np.array(table.files, dtype=np.str_))
            if table.labels is not None:
                _write(archive, "labels", table.labels.astype("<i8"))
            _write(archive, "metadata", np.array(table.metadata))


def _entry(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    return archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)


def _write(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    with _entry(archive, name) as entry:
        npy.write_array(entry, array, allow_pickle=False)
