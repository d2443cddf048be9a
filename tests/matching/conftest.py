"""The example worked out by hand, and a record of the memory that a computation asks for."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@pytest.fixture
def hand():
    """One image of 2×2, two student and four teacher channels."""
    student = [[2.0, 0, 0, 1], [0, 3, 3, 0]]
    teacher = [[1.0, 0, 0, 1], [1, 1, 0, 0], [-1, 0, 0, 2], [0, 3, 4, 0]]
    return SimpleNamespace(
        student=torch.tensor(student).view(1, 2, 2, 2),
        teacher=torch.tensor(teacher).view(1, 4, 2, 2),
        margin=torch.tensor([-0.5, -0.25, -1, -2]),
        groups=torch.tensor([[0, 1], [2, 3]]),
        sparse=torch.tensor([[0], [3]]),
    )


class NewTensors(TorchDispatchMode):
    """Records the number of elements of each tensor that owns its memory, as it is made."""

    def __init__(self):
        super().__init__()
        self.elements = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in tree_leaves(args) if torch.is_tensor(x)}
        for x in tree_leaves(result):
            if torch.is_tensor(x) and x.untyped_storage().data_ptr() not in given:
                self.elements.append(x.numel())
        return result


@pytest.fixture
def new_tensors():
    return NewTensors()
