"""What a student takes from the file of its teacher: its stem and the size of its images."""

from pathlib import Path
from typing import Any

from mgd_ssl.models import BackboneSpec, KeyReport, find_backbone, find_checkpoint
from mgd_ssl.models.backbones import TORCHVISION
from mgd_ssl.settings.run import Defaults, RunConfig
from mgd_ssl.training.logging import logger


def inherit(
    defaults: Defaults, config: RunConfig, source: Path | None, given: dict[str, Any]
) -> Defaults:
    """Defaults in which size and stem are those that a file tells, as far as it tells them.

    Args:
        defaults: by section; without "network" where another file says the student's.
        config: not resolved.
        source: a checkpoint, or the name of published weights, which leave the defaults.
        given: what the user says of the network in it.

    Raises:
        ValueError: the file cannot be read, or says of its network what cannot be.
    """
    if source is None or not find_checkpoint(source).is_file():
        return defaults
    found = find_backbone(source, given)
    size = found.entries.size()
    changed: Defaults = {"loader": {"size": size}} if size else {}
    student = config.network.arch or defaults.get("network", {}).get("arch")
    if found.shows_stem and student in TORCHVISION and "network" in defaults:
        changed["network"] = {"stem": found.spec.stem}
        if found.spec.stem == "small":
            changed["network"]["stem_stride"] = found.spec.stem_stride
    return defaults | {name: defaults[name] | values for name, values in changed.items()}


def say_inherited(size: int | None, student: BackboneSpec, report: KeyReport) -> None:
    """Say whether student and teacher see images of one size through one stem."""
    ours, theirs = _words(size, student), _words(report.size or size, report.spec)
    if ours == theirs:
        logger.info("student: %s, as the teacher", ours)
    else:
        logger.info("student: %s; the teacher's file: %s", ours, theirs)


def _words(size: int | None, spec: BackboneSpec) -> str:
    small = spec.stem == "small"
    stem = f"small stem of stride {spec.stem_stride}" if small else "plain stem"
    return f"images of {size} pixels, {stem}"
