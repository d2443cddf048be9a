"""The shape of a stage's assignment, by its widths and how channels are assigned."""

from dataclasses import dataclass

from mgd_ssl.choices import REDUCERS, AssignmentMode, usual_mode
from mgd_ssl.stages import Stage


@dataclass(frozen=True)
class Grouping:
    """How many groups of teacher channels a stage has, and how many channels a group.

    Attributes:
        mode: how channels are assigned.
        expands: whether the student's maps have the teacher's channels when they are matched.
    """

    mode: AssignmentMode
    expands: bool

    def rows(self, stage: Stage) -> int:
        """Channels that teacher channels are assigned to: a group each."""
        return stage.teacher_channels if self.expands else stage.student_channels

    def size(self, stage: Stage) -> int:
        """Channels of the largest group."""
        if self.mode == "sparse" or self.rows(stage) > stage.teacher_channels:
            return 1
        whole, rest = divmod(stage.teacher_channels, self.rows(stage))
        return whole + (rest > 0 and self.mode == "balanced")

    def is_full(self, stage: Stage) -> bool:
        """Whether no group of the assignment holds a pad."""
        if self.mode != "balanced" or self.rows(stage) > stage.teacher_channels:
            return True
        return stage.teacher_channels % self.rows(stage) == 0


def mode_of(reducer: str, mode: AssignmentMode | None = None) -> AssignmentMode:
    """How channels are assigned: as a reducer usually wants it, unless a mode is given.

    Raises:
        ValueError: unknown reducer, or a mode that does not go with it.
    """
    if reducer not in REDUCERS:
        raise ValueError(f"reducer: got {reducer!r}, expected one of {', '.join(REDUCERS)}")
    if reducer == "sm" and mode not in (None, "sparse"):
        raise ValueError(
            f"mode: got {mode!r} with reducer 'sm', expected 'sparse', its groups of 1"
        )
    return mode or usual_mode(reducer)
