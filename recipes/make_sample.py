"""Make the embedded sample from the Fashion-MNIST IDX files: the same bytes every time.

    python recipes/make_sample.py /usr/share/datasets/fashion-mnist

The folder holds the four files of https://github.com/zalandoresearch/fashion-mnist (Debian packages
them as dataset-fashion-mnist). A fixed number of images a class is drawn with SEED, in file order.
"""

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np

from mgd_ssl.data import ArraySource
from mgd_ssl.data.opening import SAMPLE, open_source
from mgd_ssl.data.reader import Split

SEED = 2017
PER_CLASS: dict[Split, int] = {"train": 600, "val": 100}


def choose(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Draw ``per_class`` indices of every class without replacement; returned in file order."""
    rng = np.random.default_rng(seed)
    chosen = [
        rng.choice(np.flatnonzero(labels == label), per_class, replace=False)
        for label in np.unique(labels)
    ]
    return np.sort(np.concatenate(chosen))


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a compressed npz without dates, so that the same arrays give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, buffer.getvalue(), compresslevel=9)


def main() -> None:
    """Read the IDX folder named on the command line and write the sample."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the four IDX files")
    parser.add_argument("--out", type=Path, default=SAMPLE, help="npz to write (%(default)s)")
    options = parser.parse_args()
    arrays: dict[str, np.ndarray] = {}
    for split, per_class in PER_CLASS.items():
        source = open_source(options.folder, split, labeled=True)
        if not isinstance(source, ArraySource) or source.labels is None:
            parser.error(f"{options.folder}: no IDX files; expected those of Fashion-MNIST")
        indices = choose(source.labels, per_class, SEED)
        arrays[f"{split}_images"] = source.images[indices]
        arrays[f"{split}_labels"] = source.labels[indices].astype(np.uint8)
    write_npz(options.out, arrays)
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
