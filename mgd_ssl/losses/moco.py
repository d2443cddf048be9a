"""Momentum Contrast, v1 and v2, as one class."""

import copy
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.losses.blocks import enqueue, projection_head, register_queue
from mgd_ssl.models import set_head


class MoCo(nn.Module):
    """A query encoder, its momentum copy and a queue of keys.

    Sources: He et al., Momentum Contrast for Unsupervised Visual Representation Learning, CVPR
    2020 (v1); Chen et al., Improved Baselines with Momentum Contrastive Learning, 2020 (v2).
    The state has the names of facebookresearch/moco: ``encoder_q.*``, ``encoder_k.*``, ``queue``,
    ``queue_ptr``.

    Args:
        backbone: from `create_backbone`, (N,3,H,W) -> (N,D); a projection head takes the
            classifier's place.
        dim: of the embedding.
        queue_size: number of keys; divisible by the global batch.
        momentum: of the key encoder.
        temperature: of the logits; v1 0.07, v2 0.2.
        mlp: whether the head has a hidden layer (v2).
        hidden: its width; as wide as the backbone's features unless given.

    Example:
        >>> moco = MoCo(create_backbone("resnet18"), queue_size=4096)
        >>> loss = moco(moco.encoder_q(query), key)
    """

    queue: Tensor
    queue_ptr: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        *,
        dim: int = 128,
        queue_size: int = 65536,
        momentum: float = 0.999,
        temperature: float = 0.2,
        mlp: bool = True,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum: got {momentum}, expected 0 <= momentum < 1")
        if not temperature > 0:
            raise ValueError(f"temperature: got {temperature}, expected a number above 0")
        self.momentum, self.temperature = momentum, temperature
        self.encoder_q = backbone
        features = cast(int, backbone.num_features)
        set_head(backbone, projection_head(features, dim, (hidden or features) if mlp else None))
        self.encoder_k = copy.deepcopy(backbone).requires_grad_(False)
        register_queue(self, dim, queue_size)

    def forward(
        self, query: Float[Tensor, "n dim"], key_images: Float[Tensor, "n 3 h w"]
    ) -> Float[Tensor, ""]:
        """InfoNCE of this step; moves the key encoder and the queue on.

        Args:
            query: ``encoder_q``'s output for the query view, not normalized.
            key_images: the key view of the same images.

        Returns:
            float32 scalar, the mean over this rank's images.
        """
        q = F.normalize(query.float(), dim=1)
        with torch.no_grad():
            self._move_key_encoder()
            k = self._encode_keys(key_images)
        with torch.autocast(q.device.type, enabled=False):
            positive = (q * k).sum(dim=1, keepdim=True)  # (N,1)
            negative = q @ self.queue.clone()  # (N,K)
        logits = torch.cat([positive, negative], dim=1) / self.temperature
        loss = F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))
        enqueue(self, k)
        return loss

    @torch.no_grad()
    def _move_key_encoder(self) -> None:
        """Exponential moving average of the parameters; batch norm's buffers keep their own."""
        keys = [p.detach() for p in self.encoder_k.parameters()]
        queries = [p.detach() for p in self.encoder_q.parameters()]
        torch._foreach_lerp_(keys, queries, 1 - self.momentum)

    def _encode_keys(self, images: Tensor) -> Tensor:
        """Keys (N,dim), normalized, from a batch whose order is shuffled over ranks."""
        n, rank = len(images), distributed.rank()
        everyone = distributed.all_gather(images)
        order = distributed.broadcast(torch.randperm(len(everyone), device=images.device))
        mine = everyone[order[rank * n : (rank + 1) * n]]
        shuffled = distributed.all_gather(F.normalize(self.encoder_k(mine).float(), dim=1))
        return shuffled[order.argsort()[rank * n : (rank + 1) * n]]
