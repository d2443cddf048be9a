"""The line that says which images are used, for what, and what is left out."""

from collections.abc import Mapping

from mgd_ssl.data.formats import printable
from mgd_ssl.data.sources import ImageSource

MOST_NAMED = 10


def data_line(uses: Mapping[str, ImageSource]) -> str:
    """Say which folders are used, how many of their images serve what, and what is left out.

    Args:
        uses: the images of each use, such as "training" or "kNN".
    """
    folders: dict[str, list[str]] = {}
    unused, left_out, several = dict[str, None](), dict[str, str](), dict[str, None]()
    for use, source in uses.items():
        folders.setdefault(source.whole.contents, []).append(f"{len(source):,} for {use}")
        unused |= dict.fromkeys(source.unused)
        several |= dict.fromkeys([source.several] if source.several else [])
        if source.skipped:
            left_out[source.name] = source.skipped
    parts = [f"{folder}: {', '.join(served)}" for folder, served in folders.items()]
    parts += [f"not used: {_some(list(unused))}"] if unused else []
    parts += [f"skipped in {name}: {reasons}" for name, reasons in left_out.items()]
    parts += several
    return printable(f"data: {'; '.join(parts)}")


def _some(names: list[str]) -> str:
    more = [f"{len(names) - MOST_NAMED} others"] if len(names) > MOST_NAMED else []
    return ", ".join([*names[:MOST_NAMED], *more])
