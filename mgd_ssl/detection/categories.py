"""Checks that COCO ids name the same categories in train and val, in detector and data."""

from collections.abc import Sequence

from mgd_ssl.detection.sources import DetectionSource
from mgd_ssl.models import KeyReport
from mgd_ssl.training.logging import logger

Names = Sequence[str] | None
UNNAMED = ("__background__", "N/A")  # of torchvision's detectors


def check_same_categories(train: DetectionSource, val: DetectionSource) -> None:
    """Check that train and val have the same categories.

    Raises:
        ValueError: a category's id or name differs.
    """
    ours = dict(zip(train.category_ids, train.classes, strict=True))
    theirs = dict(zip(val.category_ids, val.classes, strict=True))
    if ours != theirs:
        differ = sorted(set(ours.items()) ^ set(theirs.items()))
        shown = ", ".join(f"{category} {name!r}" for category, name in differ[:5])
        raise ValueError(
            f"{val.name}: {len(theirs)} categories that differ from the {len(ours)} of "
            f"{train.name}, among them {shown}; expected the same ids and names in both. Write the "
            "same categories into both annotation files."
        )


def match_categories(
    report: KeyReport, ids: Sequence[int], data_ids: Sequence[int], data_names: Names, *, what: str
) -> None:
    """Check a detector's categories against those of the data.

    Args:
        report: of the detector's file.
        ids: COCO ids of the detector's outputs.
        data_ids: COCO ids of the data's categories.
        data_names: the names of ``data_ids``.
        what: the option that gave the file, for messages.

    Raises:
        ValueError: the two have no id in common, or a common id has different names.
    """
    theirs = dict(zip(ids, report.class_names or (), strict=False))
    ours = dict(zip(data_ids, data_names or (), strict=False))
    if not set(ids) & set(data_ids):
        raise ValueError(
            f"{what}: {report.path} finds the categories {_listed(ids, theirs)}, and the data has "
            f"{_listed(data_ids, ours)}, expected some ids in both; correct the annotations' ids, "
            "or take another detector"
        )
    named = [i for i in ours if i in theirs and theirs[i] not in UNNAMED]
    differing = [i for i in named if theirs[i] != ours[i]]
    if differing:
        raise ValueError(
            f"{what}: {report.path} finds the categories {_listed(differing, theirs)}, which the "
            f"data calls {_listed(differing, ours)}, expected the same names for the same ids; "
            "correct the annotations' ids, or take another detector"
        )
    if not named:
        whose = "the file" if not theirs else "the data"
        logger.info("%s: categories were compared by id; %s has no names", report.path, whose)


def _listed(ids: Sequence[int], names: dict[int, str]) -> str:
    words = [f"{i} {names[i]}" if i in names else str(i) for i in ids[:4]]
    return ", ".join(words) + (", …" if len(ids) > 4 else "")
