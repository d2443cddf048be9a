"""Options of ``mgd-ssl report``."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from mgd_ssl.settings.settings import Settings


@dataclass(frozen=True)
class ReportConfig(Settings):
    """Write a page about runs, with the same content as Markdown and JSON beside it.

    Runs that differ only in the seed are averaged.
    """

    EXAMPLE: ClassVar = "mgd-ssl report runs/resnet18 runs/resnet18-simreg --out report.html"

    runs: Positional[tuple[Path, ...]] = ()
    """Directories of runs of pretrain.py, mgd-ssl classify and mgd-ssl detect."""
    baseline: tuple[Path, ...] = ()
    """Runs of the student alone to compare with. Default: those among RUNS that have no teacher and
    otherwise the same settings."""
    published: tuple[Path, ...] = ()
    """JSON files of knn_eval.py or linear_eval.py of published weights, shown beside the students:
    knn_eval.py resnet18 DATA --out FILE."""
    out: Path = Path("report.html")
    """File for the page; .md and .json of the same name are written beside it."""
    png: Path | None = None
    """Folder for the pictures as PNG files."""
    title: str = "Report of runs"
    """Title of the page."""
    features: bool = False
    """Draw the students' features of up to 1,000 validation images; runs the networks."""
    umap: bool = False
    """With --features: use UMAP in place of PCA; needs umap-learn."""
    retrieve: int = 0
    """Draw this many queries with their nearest training images; runs the networks."""

    def check(self) -> None:
        """Refuse values out of range and options that exclude each other."""
        if self.baseline and not self.runs:
            raise ValueError(
                "runs: got none, because --baseline takes all names after it; name the runs "
                "first: mgd-ssl report RUN ... --baseline RUN ..."
            )
        if self.retrieve < 0:
            raise ValueError(f"retrieve: got {self.retrieve}, expected 0 or more")
        if self.out.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"out: got {self.out}, expected a name that ends with .html")
        if self.umap and not self.features:
            raise ValueError("got --umap without --features, expected both or neither")
        if self.umap and importlib.util.find_spec("umap") is None:
            raise ValueError(
                "umap: umap-learn is not installed, expected it for --umap; pip install "
                "umap-learn, or omit --umap to use PCA"
            )
