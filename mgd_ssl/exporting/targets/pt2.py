"""``--to pt2``: the network as a program of torch.export, which needs none of its code."""

from pathlib import Path

import torch

from mgd_ssl.exporting.original import Original, outputs_of
from mgd_ssl.exporting.target import Runnable, Target
from mgd_ssl.exporting.tracing import trace


class Pt2(Target):
    """``torch.export.load``; the metadata are extra files of the archive."""

    name, ending = "pt2", ".pt2"

    def write(self, original: Original, path: Path) -> None:
        """Trace the network for any batch size, and save it."""
        torch.export.save(trace(original), path, extra_files=original.metadata)

    def load(self, original: Original, path: Path) -> Runnable:
        """Load the program."""
        program = torch.export.load(path).module()
        return lambda images: outputs_of(program, images, original.output)

    def loading(self, original: Original, file: str) -> list[str]:
        """With torch alone."""
        return [
            "import torch",
            f"network = torch.export.load({file!r}).module()",
            f"{original.output} = network(images)  # any number of images",
        ]
