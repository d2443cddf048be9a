"""The images inside a zip archive, and their bytes."""

import stat
import struct
import zipfile
import zlib
from pathlib import Path
from zipfile import ZipInfo

from mgd_ssl.data.archives.entries import Entries, tidy_name, unwanted_part
from mgd_ssl.data.archives.source import ArchiveSource
from mgd_ssl.data.formats import extensions

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
LARGEST = 2**30  # bytes of an image file; a small archive may say of itself that it holds more
ENCRYPTED = 1
HEADER = struct.Struct("<4s22xHH")
SIGNATURE = b"PK\3\4"


def read_zip(path: Path) -> Entries:
    """List the images of a zip archive in the order of their names; nothing is unpacked.

    A backslash separates folders, as some tools of Windows write it, if no name has a slash.

    Links, names that lead out of the archive, encrypted files, files compressed otherwise than
    zip's "deflate", and files of other kinds are skipped and counted.

    Raises:
        ValueError: no zip archive, a damaged or truncated one, or two images of one name.
    """
    found, images = Entries(), dict[str, ZipInfo]()
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        raise ValueError(
            f"{path}: truncated or damaged ({error}); expected a whole zip archive. Fetch it again."
        ) from error
    separator = "/" if any("/" in member.filename for member in members) else "\\"
    for member in members:
        name = tidy_name(member.filename.replace(separator, "/"))
        reason = _why_skipped(member, name)
        if reason is None and name is not None:
            if name in images:
                raise ValueError(f"{path}: two images {name}; expected one. Pack it again.")
            images[name] = member
        elif reason:
            found.skipped[reason] += 1
    found.names = sorted(images)
    ordered = [images[name] for name in found.names]
    found.offsets = [member.header_offset for member in ordered]
    found.sizes = [member.file_size for member in ordered]
    found.labels = [None] * len(ordered)
    found.more = {
        "stored_size": [member.compress_size for member in ordered],
        "method": [member.compress_type for member in ordered],
        "checksum": [member.CRC for member in ordered],
    }
    return found


def _why_skipped(member: ZipInfo, name: str | None) -> str | None:
    """Why a member is left out; "" for a folder, None where it is not."""
    if member.is_dir():
        return ""
    if name is None:
        return "names that lead out of the archive"
    if reason := unwanted_part(name):
        return reason
    if stat.S_ISLNK(member.external_attr >> 16):
        return "links in the archive"
    if not name.lower().endswith(extensions()):
        extension = Path(name).suffix.lower()
        return extension if 1 < len(extension) < 12 else "without an extension"
    if member.flag_bits & ENCRYPTED:
        return "encrypted images"
    if member.compress_type not in METHODS:
        return "images compressed otherwise than by deflate"
    return "images larger than 1 GiB" if member.file_size > LARGEST else None


class ZipSource(ArchiveSource):
    """The images of a zip archive."""

    def encoded(self, index: int) -> bytes:
        """The image file of image ``index``; raises where it cannot be read or is damaged."""
        row, archive = self._place(index)
        offset, size, stored_size, method, checksum = (
            int(self.index.table.columns[name][row])
            for name in ("offset", "size", "stored_size", "method", "checksum")
        )
        signature, name, extra = HEADER.unpack(archive.read(offset, HEADER.size))
        if signature != SIGNATURE:
            raise ValueError("the zip archive is damaged: no file begins where it says")
        data = archive.read(offset + HEADER.size + name + extra, stored_size)
        if method == zipfile.ZIP_DEFLATED:
            # no limit is said by a limit of 0
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, max(size, 1))
        if len(data) != size or zlib.crc32(data) != checksum:
            raise ValueError("the zip archive is damaged: its checksum differs")
        return data
