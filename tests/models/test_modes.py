"""What a look at a network, or a change that is broken off, leaves of its state."""

import pytest
import torch
from torch import nn

from mgd_ssl.models import evaluating, undone_on_error


class Unwilling(nn.Module):
    def train(self, mode: bool = True) -> "Unwilling":
        raise KeyboardInterrupt


def test_all_have_their_mode_back_where_one_does_not_reach_eval_mode() -> None:
    first = nn.Dropout()
    with pytest.raises(KeyboardInterrupt), evaluating(first, Unwilling()):
        pass
    assert first.training


def test_a_change_that_is_broken_off_is_taken_back() -> None:
    norm = nn.BatchNorm2d(2)
    with undone_on_error(norm):
        norm.running_mean.fill_(1)  # type: ignore[union-attr]
    with pytest.raises(KeyboardInterrupt), undone_on_error(norm):
        norm.running_mean.fill_(2)  # type: ignore[union-attr]
        raise KeyboardInterrupt
    assert torch.equal(norm.state_dict()["running_mean"], torch.ones(2))
