"""The plan says how many teacher channels each student channel really gets."""

import pytest
import torch

from mgd_ssl.choices import AssignmentMode
from mgd_ssl.grouping import Grouping
from mgd_ssl.matching.assignment import share_channels
from mgd_ssl.stages import Stage
from mgd_ssl.training.plan import _row


@pytest.mark.parametrize("mode", ["balanced", "shave", "sparse"])
@pytest.mark.parametrize(("ours", "theirs"), [(4, 8), (5, 8), (7, 7), (9, 4)])
def test_the_groups_are_those_of_the_assignment(
    ours: int, theirs: int, mode: AssignmentMode
) -> None:
    said = _row(Stage(0, "a", ours, theirs), Grouping(mode, expands=False))[3]
    sizes = (share_channels(torch.rand(ours, theirs), mode) >= 0).sum(1)
    found = "–".join(str(int(size)) for size in sizes.unique())
    assert said == found + ", shared" * (ours > theirs)


def test_expanded_maps_are_matched_one_to_one() -> None:
    assert _row(Stage(0, "a", 4, 9), Grouping("balanced", expands=True))[3] == "1, expanded"
    assert _row(Stage(0, "a", 4, 9, ignored=True), Grouping("balanced", expands=True))[3] == (
        "ignored"
    )
