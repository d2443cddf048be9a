"""Options of ``mgd-ssl report``."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from mgd_ssl.settings.settings import Settings


@dataclass(frozen=True)
class ReportConfig(Settings):
    """Write one page of runs, and the same as Markdown and JSON beside it.

    Runs of the same settings but the seed are taken together.
    """

    runs: Positional[tuple[Path, ...]] = ()
    """Directories of runs of pretrain.py, mgd-ssl classify and mgd-ssl detect."""
    baseline: tuple[Path, ...] = ()
    """Runs to compare with. [those given that had no teacher and are otherwise alike]"""
    out: Path = Path("report.html")
    """The page; .md and .json of the same name are written beside it."""
    title: str = "Report of runs"
    features: bool = False
    """Draw the students' features of up to 1,000 validation images; runs the networks."""
    umap: bool = False
    """With --features: by UMAP, where umap-learn is installed, instead of PCA."""
    retrieve: int = 0
    """Draw this many queries with their nearest training images; runs the networks."""

    def check(self) -> None:
        """Refuse what is out of range, and what excludes each other."""
        if self.baseline and not self.runs:
            raise ValueError(
                "runs: got none beside --baseline, which takes every name behind it; expected the "
                "runs before it: mgd-ssl report RUN ... --baseline RUN ..."
            )
        if self.retrieve < 0:
            raise ValueError(f"retrieve: got {self.retrieve}, expected 0 or more")
        if self.out.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"out: got {self.out}, expected a name that ends with .html")
        if self.umap and not self.features:
            raise ValueError("got --umap without --features, expected both or neither")
        if self.umap and importlib.util.find_spec("umap") is None:
            raise ValueError(
                "umap: got no such package, expected umap-learn: pip install umap-learn, or leave "
                "--umap out for PCA"
            )
