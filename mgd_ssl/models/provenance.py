"""Where a network's weights come from, and under what their publishers give them out.

Facts that a student carries of its teacher. What they mean for the student's own license is for
its makers to say: none is claimed here.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mgd_ssl.models.families import Terms
from mgd_ssl.models.specs import BackboneSpec


@dataclass(frozen=True)
class Provenance:
    """Of weights that were loaded.

    Attributes:
        source: name of the file, or the name under which a library publishes the weights.
        sha256: file name -> SHA-256 of its bytes; empty for published weights.
        layout: the layout recognized.
        spec: the network.
        terms: under which its family's weights are published, where known.
        learned_from: the provenance that a student's own file carries.
    """

    source: str
    layout: str
    spec: BackboneSpec
    sha256: Mapping[str, str] = field(default_factory=dict)
    terms: Terms | None = None
    learned_from: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints, metadata and reports."""
        known = {"source": self.source, "layout": self.layout, "network": self.spec.to_dict()}
        known |= {"sha256": dict(self.sha256)} if self.sha256 else {}
        known |= {"learned_from": dict(self.learned_from)} if self.learned_from else {}
        return known | (self.terms.to_dict() if self.terms else {})


def sha256_of(*files: Path) -> dict[str, str]:
    """File name -> SHA-256 of its bytes, in hexadecimal digits."""
    found = {}
    for path in files:
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
