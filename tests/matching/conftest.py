"""The example worked out by hand: one image of 2×2, two student and four teacher channels."""

from types import SimpleNamespace

import pytest
import torch


@pytest.fixture
def hand():
    student = [[2.0, 0, 0, 1], [0, 3, 3, 0]]
    teacher = [[1.0, 0, 0, 1], [1, 1, 0, 0], [-1, 0, 0, 2], [0, 3, 4, 0]]
    return SimpleNamespace(
        student=torch.tensor(student).view(1, 2, 2, 2),
        teacher=torch.tensor(teacher).view(1, 4, 2, 2),
        margin=torch.tensor([-0.5, -0.25, -1, -2]),
        groups=torch.tensor([[0, 1], [2, 3]]),
        sparse=torch.tensor([[0], [3]]),
    )
