"""``--to safetensors``: weights and description, for `mgd_ssl.load_backbone`; any network."""

from pathlib import Path

from safetensors.torch import save

from mgd_ssl.exporting.original import Original, outputs_of
from mgd_ssl.exporting.target import Runnable, Target
from mgd_ssl.models import load_backbone, load_classifier
from mgd_ssl.training.checkpoint import with_sorted_metadata


class Safetensors(Target):
    """A safetensors file whose metadata describes network and input."""

    name, ending = "safetensors", ".mgd_ssl.safetensors"

    def write(self, original: Original, path: Path) -> None:
        """Write weights under the library's names, and the metadata."""
        state = {k: v.detach().contiguous().clone() for k, v in original.state.items()}
        path.write_bytes(with_sorted_metadata(save(state, original.metadata)))

    def load(self, original: Original, path: Path) -> Runnable:
        """Build the network that the file describes; code is named by the user alone."""
        load = load_classifier if original.classes else load_backbone
        arch = original.spec.arch
        network, _ = load(path, arch=arch if ":" in arch else None)
        return lambda images: outputs_of(network, images, original.output)

    def loading(self, original: Original, file: str) -> list[str]:
        """With this project, which builds every network that it exports."""
        arch = original.spec.arch
        given = f", arch={arch!r}" if ":" in arch else ""
        if original.classes:
            return [
                "from mgd_ssl.models import load_classifier",
                f"network, report = load_classifier({file!r}{given})",
            ]
        return ["import mgd_ssl", f"network, report = mgd_ssl.load_backbone({file!r}{given})"]
