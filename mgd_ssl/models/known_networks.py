"""Which network of torchvision or timm a state dict is of, by the names and shapes of its entries.

``known_networks.json`` holds a fingerprint of each, without its last layer. Networks that compute
something else from the same entries have one fingerprint, and are told apart by nobody.

``python -m mgd_ssl.models.known_networks`` writes the file anew; it takes some minutes.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

LAST_LAYER = re.compile(
    r"(fc|last_linear|head|head_dist|head\.fc|head\.l|heads\.head|classifier|classifier\.\d+)"
    r"\.(weight|bias)"
)
COUNT = "num_batches_tracked"
FILE = Path(__file__).with_suffix(".json")
DIGITS = 16


def fingerprint(shapes: Mapping[str, Sequence[int]]) -> str:
    """Digits that networks with the same entries share, whatever their last layer."""
    kept = (k for k in shapes if not k.endswith(COUNT) and not LAST_LAYER.fullmatch(k))
    lines = sorted(f"{key} {' '.join(map(str, shapes[key]))}" for key in kept)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:DIGITS]


def names_of(shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """Names of the networks that have these entries; none where no network has."""
    return _index().get(fingerprint(shapes), [])


@cache
def _index() -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(FILE.read_text())
    return found


def build_index() -> dict[str, list[str]]:
    """Fingerprint -> names, of all classifiers of torchvision and all networks of timm."""
    import timm

    from mgd_ssl.models.backbones import backbone_shapes
    from mgd_ssl.models.specs import BackboneSpec
    from mgd_ssl.models.torchvision_networks import CLASSIFIERS

    found = defaultdict(list)
    for name in [*CLASSIFIERS, *(f"timm/{name}" for name in timm.list_models())]:
        with suppress(ValueError):  # the few that have no place for a classifier
            found[fingerprint(backbone_shapes(BackboneSpec(name)))].append(name)
    return dict(sorted(found.items()))


def main() -> None:
    """Write the index beside this module."""
    lines = [f"{json.dumps(k)}: {json.dumps(names)}" for k, names in build_index().items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
