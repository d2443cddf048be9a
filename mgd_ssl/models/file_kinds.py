"""What a file is that was given as a checkpoint, told by its first bytes, else by its ending."""

import zipfile
from pathlib import Path

HEAD = 512
ZIP = b"PK\x03\x04"  # of PyTorch's files too, which hold a data.pkl
ARCHIVES = {
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"7z\xbc\xaf": "a 7z archive",
}
OTHERS = {
    b"PAR1": "a Parquet file",
    b"\x89HDF": "an HDF5 file, as Keras writes it",
    b"\x93NUMPY": "a NumPy array",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
}
ENDINGS = {  # of files whose first bytes tell nothing
    ".onnx": "an ONNX export",
    ".pt2": "a program of torch.export",
    ".yaml": "a file of settings",
    ".yml": "a file of settings",
}


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors does: the length of a JSON header, and the header."""
    with path.open("rb") as file:
        head = file.read(9)
    length = int.from_bytes(head[:8], "little")
    return head[8:] == b"{" and length < path.stat().st_size


def what_else(path: Path) -> str:
    """What a file is that is no checkpoint, with the remedy; "" where that cannot be told."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    again = "copy or download it again"
    if not head:
        return f"is empty, so truncated or never written; {again}"
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself; fetch that: git lfs pull"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return (
            "is a web page, as servers send it in place of a file that needs a login or a "
            f"confirmation; {again}, in a browser, say"
        )
    for start, kind in ARCHIVES.items():
        if head.startswith(start):
            return f"is {kind}; unpack it, and give the checkpoint that is in it"
    for start, kind in OTHERS.items():
        if head.startswith(start):
            return f"is {kind}; give a file of PyTorch's or safetensors"
    if path.suffix in ENDINGS:
        return f"is {ENDINGS[path.suffix]}; give the run's directory or its student.safetensors"
    return _of_zip(path) if head.startswith((ZIP, b"PK\x05\x06")) else ""


def _of_zip(path: Path) -> str:
    """What a zip archive is that is no file of PyTorch's."""
    if not zipfile.is_zipfile(path):  # its list of contents stands at its end
        return "is truncated: its end is missing; copy or download it again"
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    if any(name.endswith("data.pkl") for name in names):
        return ""
    if not names:
        return "is an empty zip archive; copy or download it again"
    if all(name.endswith(".npy") for name in names):
        return "is an archive of NumPy arrays (.npz); give a file of PyTorch's or safetensors"
    return (
        f"is a zip archive that begins with {names[0]}; if a checkpoint is in it, unpack it and "
        "give that file; an archive of images is given as DATA"
    )
