"""The weights that a student starts from, and whose weights a run comes from."""

from dataclasses import dataclass
from typing import Any

from mgd_ssl.models import KeyReport
from mgd_ssl.settings.options import LoaderOptions
from mgd_ssl.training.logging import logger


@dataclass(frozen=True)
class Reports:
    """What was read of the files of a run; None where it has none.

    Attributes:
        teacher: of ``--teacher``.
        student_weights: of ``--student-weights``.
    """

    teacher: KeyReport | None = None
    student_weights: KeyReport | None = None

    @property
    def provenance(self) -> dict[str, Any]:
        """What checkpoints and the exported student say of the weights that they come from."""
        parts = {"teacher": self.teacher, "student_weights": self.student_weights}
        return {name: report.provenance.to_dict() for name, report in parts.items() if report}


def say_start(report: KeyReport, loader: LoaderOptions) -> None:
    """Say what the student starts from, and warn of images normalized otherwise."""
    logger.info("student %s", report)
    if (tuple(report.mean), tuple(report.std)) != (loader.mean, loader.std):
        values = [" ".join(f"{v:g}" for v in pair) for pair in (report.mean, report.std)]
        logger.warning(
            "student_weights: for images normalized otherwise; to go on so: --mean %s --std %s",
            *values,
        )


def refuse_teachers_own(reports: Reports) -> None:
    """Refuse a student that starts from the very weights of its teacher.

    Raises:
        ValueError: both are one file, a copy of it, or one name.
    """
    teacher, start = reports.teacher, reports.student_weights
    if teacher and start and _identity(teacher) == _identity(start):
        raise ValueError(
            f"student_weights: got {start.path}, which holds the weights of the teacher "
            f"{teacher.path}, expected those of another network: it has nothing to learn from "
            "itself; name a smaller network's weights, or leave --student-weights out and name a "
            "network: -a resnet18"
        )


def _identity(report: KeyReport) -> set[str] | str:
    """Digests of a file's bytes, whatever it is called; the name of published weights."""
    return set(report.sha256.values()) or str(report.path)
