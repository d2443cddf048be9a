"""Muon: the updates of matrices are orthogonal; everything else is updated as by AdamW."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
ROUNDS, COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)  # of the iteration, from its author
RMS = 0.4  # of an update at a rate of 1, twice that of AdamW; docs/log.md


def matrices_of(module: nn.Module, head: nn.Module | None = None) -> list[nn.Parameter]:
    """Trained weights of linear layers and of convolutions between all channels.

    A convolution's (O,I,k,k) is the matrix (O,I·k·k).

    Args:
        module: whose layers are looked through.
        head: part of the module whose weights are left out.
    """
    left = set() if head is None else set(head.parameters())
    layers = (m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    weights = dict.fromkeys(m.weight for m in layers if getattr(m, "groups", 1) == 1)
    trained = (w for w in weights if isinstance(w, nn.Parameter) and w.requires_grad)
    return [w for w in trained if w not in left]


class Muon(torch.optim.AdamW):
    """AdamW, except for matrices, which move along their orthogonalized momentum.

    Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024,
    https://kellerjordan.github.io/posts/muon/. The size of an update does not depend on a
    matrix's sides (Liu et al., Muon is scalable for LLM training, arXiv 2502.16982), so that one
    rate and one decay suit all weights.

    Args:
        matrices: two or more dimensions each, the first one against all others.
        others: all else that is trained.
        lr: learning rate.
        weight_decay: decoupled, as AdamW's.
    """

    def __init__(
        self,
        matrices: list[nn.Parameter],
        others: list[nn.Parameter],
        lr: float,
        weight_decay: float,
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": matrices, "momentum": MOMENTUM},
            {"params": others},
        ]
        super().__init__([g for g in groups if g["params"]], lr, weight_decay=weight_decay)
        # Not by an argument, which would let a scaler leave its factor on fp16 gradients.
        self.param_groups[-1]["fused"] = "momentum" not in self.param_groups[-1]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of all weights that have gradients."""
        for group in self.param_groups:
            if "momentum" in group:
                self._update(group)
        with self._without_matrices():
            return super().step(closure)

    def _update(self, group: dict[str, Any]) -> None:
        """Matrices of one shape are orthogonalized together."""
        shapes = defaultdict(list)
        for weight in (p for p in group["params"] if p.grad is not None):
            shapes[weight.shape].append(weight)
        rate, decay = group["lr"], group["weight_decay"]
        for shape, weights in shapes.items():
            directions = torch.stack([self._momentum(w, group["momentum"]) for w in weights])
            updates = orthogonalized(directions.flatten(2)).reshape(directions.shape)
            size = rate * RMS * max(shape[0], shape[1:].numel()) ** 0.5
            for weight, update in zip(weights, updates, strict=True):
                weight.mul_(1 - rate * decay).sub_(update, alpha=size)

    def _momentum(self, weight: Tensor, momentum: float) -> Tensor:
        """Nesterov's, of the gradients so far."""
        assert weight.grad is not None
        state = self.state[weight]
        if not state:  # AdamW's reader of a saved state expects the steps
            state |= {"step": torch.tensor(0.0), "momentum_buffer": torch.zeros_like(weight)}
        state["step"] += 1
        state["momentum_buffer"].lerp_(weight.grad, 1 - momentum)
        direction: Tensor = weight.grad.lerp(state["momentum_buffer"], momentum)
        return direction

    @contextmanager
    def _without_matrices(self) -> Iterator[None]:
        """Inside, the matrices have no gradients, so that AdamW leaves them alone."""
        weights = [p for group in self.param_groups if "momentum" in group for p in group["params"]]
        gradients = [weight.grad for weight in weights]
        for weight in weights:
            weight.grad = None
        try:
            yield
        finally:
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient


def orthogonalized(matrices: Tensor) -> Tensor:
    """(B,M,N) -> the same with singular values near 1, between about 0.7 and 1.2, in float32.

    Newton–Schulz iteration. Each round multiplies a matrix X by a polynomial of its X·Xᵀ. The
    rounds are taken on that product, whose sides are the shorter ones, and X is multiplied once.
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if is_tall else matrices).float()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    product = x @ x.mT
    factor = once = polynomial(product)
    for _ in range(ROUNDS - 1):
        product = once @ product @ once
        once = polynomial(product)
        factor = once @ factor
    x = factor @ x
    found: Tensor = x.mT if is_tall else x
    return found


def polynomial(product: Tensor) -> Tensor:
    """(B,M,M) X·Xᵀ -> the matrix with which a round multiplies X."""
    a, b, c = COEFFICIENTS
    matrix = torch.baddbmm(product, product, product, beta=b, alpha=c)
    matrix.diagonal(dim1=1, dim2=2).add_(a)
    return matrix
