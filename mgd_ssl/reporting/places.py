"""Places in settings, compared as resolved paths."""

import os
from collections.abc import Mapping
from typing import Any

from mgd_ssl.reporting.reading import to_path
from mgd_ssl.settings.options import BETWEEN, flat

# Of a run, and of an evaluator's result.
PLACES = (
    *("data", "evaluation.eval_data", "teacher.teacher", "teacher_cache"),
    *("student_weights", "backbone_weights"),
)


def located(places: object) -> list[str]:
    """Absolute paths of places, relative to the current folder; text that names no path stays.

    Args:
        places: a list, or text as ``photos + scans``.
    """
    given = places if isinstance(places, list) else str(places).split(BETWEEN)
    return [str(to_path(os.path.expanduser(str(place))) or place) for place in given]


def comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their dotted names, with the places in them located."""
    return {k: located(v) if v and k in PLACES else v for k, v in flat(settings)}
