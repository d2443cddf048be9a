"""Whose weights a run's student comes from, as its own file says."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mgd_ssl.reporting.reading import parse_json

PARTS = {"teacher": "Teacher", "student_weights": "Initial weights"}


def read_provenance(run: Path) -> dict[str, Any]:
    """The entry ``provenance`` of ``student.safetensors``; empty where there is none."""
    path = run / "student.safetensors"
    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="numpy") as file:
            said = parse_json((file.metadata() or {}).get("provenance", "{}"))
    except (OSError, ValueError, SafetensorError):
        return {}
    parts = said.items() if isinstance(said, dict) else ()
    return {name: part for name, part in parts if isinstance(part, dict)}


def origins(provenance: Mapping[str, Any]) -> Iterator[str]:
    """A line for the teacher and one for the initial weights: file, network, digest, license."""
    for name, title in PARTS.items():
        if name in provenance:
            yield f"{title}: {'; '.join(_facts(provenance[name]))}"


def _facts(part: Mapping[str, Any]) -> Iterator[str]:
    network, digests = part.get("network"), part.get("sha256")
    arch = f", {network['arch']}" if isinstance(network, dict) and "arch" in network else ""
    yield f"{part.get('source', 'of unknown file')}{arch}"
    for file, digest in digests.items() if isinstance(digests, dict) else ():
        yield f"SHA-256 of {file} {digest}"
    if "license" in part:
        whose = f" ({part['license_of']})" if "license_of" in part else ""
        yield f"license {part['license']}{whose}"
    if "obligation" in part:
        yield f"beyond its usual notice: {part['obligation']}"
