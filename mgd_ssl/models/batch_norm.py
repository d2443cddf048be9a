"""Split batch norm: a batch's splits are normalized apart, as on as many GPUs."""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn


class SplitBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d that takes its statistics over each of ``splits`` parts of the batch.

    In eval mode, and in its state, it is BatchNorm2d. The running statistics move by the mean
    of the parts' statistics. Split j holds the images j, j + splits, j + 2·splits, …

    Raises:
        ValueError: the batch is not divisible by the splits.
    """

    splits: int = 1

    def forward(self, x: Tensor) -> Tensor:
        """(N,C,H,W) -> (N,C,H,W)."""
        if not self.training or self.splits == 1:
            return super().forward(x)
        n, c, h, w = x.shape
        if n % self.splits:
            raise ValueError(f"batch: got {n} images, expected a multiple of {self.splits} splits")
        assert self.running_mean is not None and self.running_var is not None
        mean, var = self.running_mean.repeat(self.splits), self.running_var.repeat(self.splits)
        out = F.batch_norm(
            x.reshape(n // self.splits, self.splits * c, h, w),
            mean,
            var,
            self.weight.repeat(self.splits) if self.affine else None,
            self.bias.repeat(self.splits) if self.affine else None,
            True,
            cast(float, self.momentum),
            self.eps,
        )
        self.running_mean.copy_(mean.view(self.splits, c).mean(0))
        self.running_var.copy_(var.view(self.splits, c).mean(0))
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return out.view(n, c, h, w)


def split_batch_norms(network: nn.Module, splits: int) -> int:
    """Turn every BatchNorm2d of a network into a split one, in place, keys unchanged.

    Returns:
        How many norms could not be turned, being of another class (timm's fused ones).
    """
    others = 0
    for module in network.modules():
        if type(module) in (nn.BatchNorm2d, SplitBatchNorm2d):
            # The class alone changes: parameters, buffers, hooks and keys stay where they are.
            module.__class__ = SplitBatchNorm2d
            cast(SplitBatchNorm2d, module).splits = splits
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            others += 1
    return others
