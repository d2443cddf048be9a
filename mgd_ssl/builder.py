"""The user-facing contract of the first implementation, a thin face on `mgd_ssl.distiller`.

A network offers ``extract_feature(x, preReLU) -> (maps, output)``, ``get_bn_before_relu()`` and
``get_channel_num()``; any other is put inside a `mgd_ssl.models.TappedNetwork`, or a
`mgd_ssl.models.dict_backbones.DictBackbone` if it is a detector's backbone that returns a dict of
maps.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mgd_ssl.distiller import FeatureDistiller, StageMatching
from mgd_ssl.matching import AssignmentMode, detection_weights, kd_loss
from mgd_ssl.models import TappedNetwork, evaluating
from mgd_ssl.models.dict_backbones import DictBackbone, returns_dict
from mgd_ssl.stages import Form, plan_channels, read_margins

KD_TEMPERATURE = 1.5


class MGDistiller(nn.Module):
    """Teacher and student in one module, for scripts that train a classifier or a detector.

    Source: Yue, Deng, Zhou, Matching Guided Distillation, ECCV 2020.

    Args:
        t_net: the teacher, its weights loaded; it is frozen and stays in eval mode.
        s_net: the student.
        ignore_inds: stages, from 0, that take no part.
        reducer: a name in ``REDUCERS``.
        sync_bn: let the adapters' batch norm take its statistics over all processes.
        with_kd: also return knowledge distillation of the logits; True unless ``det``.
        preReLU: read the maps before the activation.
        distributed: of the contract: True under DistributedDataParallel. Both ways compute the same
            here, and `mgd_update` finds the processes by itself.
        det: the networks are backbones of detectors, torchvision's, Detectron2's or any other
            that returns a dict of maps; the output is that dict. The stages are C2..C5 before
            their last activation, then the maps of a feature pyramid. The adapters are
            GroupNorm(32) and the stages' sums are divided by 5e7·[1, 1, 0.1, 0.1, …].
        mode: how channels are assigned; ``shave`` repeats the first implementation where channel
            counts do not divide.
        pyramid: with ``det``, let the pyramid's maps take part too.

    Raises:
        ValueError: ``with_kd`` with ``det``, which has no logits; stages that do not pair; or no
            rule finds where the maps are read.

    Example:
        >>> d_net = MGDistiller(t_net, s_net, with_kd=False)
        >>> mgd_update(train_loader, d_net)  # before the first epoch, then every 2 epochs
        >>> output, loss = d_net(images)
        >>> total = cross_entropy(output, target) + loss.sum() / len(images) / 1e4
    """

    def __init__(
        self,
        t_net: nn.Module,
        s_net: nn.Module,
        ignore_inds: Sequence[int] = (),
        reducer: str = "amp",
        sync_bn: bool = False,
        with_kd: bool | None = None,
        preReLU: bool = True,
        distributed: bool = False,
        det: bool = False,
        *,
        mode: AssignmentMode | None = None,
        pyramid: bool = False,
    ) -> None:
        super().__init__()
        if det and with_kd:
            raise ValueError("with_kd: got True with det, which has no logits, expected False")
        self.t_net, self.s_net = _tapped(t_net, det).requires_grad_(False), _tapped(s_net, det)
        self.with_kd, self.pre_relu = not det if with_kd is None else with_kd, preReLU
        student_channels = self.s_net.get_channel_num()
        names, linear = _describe(self.s_net, len(student_channels))
        ignored = [*ignore_inds, *(() if pyramid else linear)]
        forms: list[Form] = ["linear" if i in linear else "rectified" for i in range(len(names))]
        teacher_channels = self.t_net.get_channel_num()
        self.plan = plan_channels(teacher_channels, student_channels, names, ignored, forms)
        distiller = FeatureDistiller(
            self.plan,
            self._margins(),
            reducer=reducer,
            mode=mode,
            adapter="group" if det else "batch",
            reduction="sum",
            scale=1.0,
            stage_scale=detection_weights(len(names)).__getitem__ if det else None,
        )
        if sync_bn:
            distiller = nn.SyncBatchNorm.convert_sync_batchnorm(distiller)
        self.distiller = distiller
        self.train(self.training)

    def train(self, mode: bool = True) -> "MGDistiller":
        """Set the student's mode; the teacher stays in eval mode."""
        super().train(mode)
        self.t_net.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Any, Tensor | list[Tensor]]:
        """Images -> (student output, distillation loss).

        The loss is Σ_i ℓ_i / 2^(n−1−i), n counting ignored stages too; divide it by the images of
        the batch and by 1e4. With ``det`` it is Σ_i ℓ_i / f_i; divide it by the images. With
        ``with_kd`` the second item is [distillation loss, kd loss].
        """
        with torch.no_grad():
            teacher_maps, teacher_output = self._read(self.t_net, x)
        student_maps, output = self._read(self.s_net, x)
        losses = self.distiller(student_maps, teacher_maps)
        loss = torch.stack(list(losses.values())).sum()
        if not self.with_kd:
            return output, loss
        return output, [loss, kd_loss(output, teacher_output, KD_TEMPERATURE)]

    def _read(self, network: Any, x: Tensor) -> tuple[Sequence[Tensor], Any]:
        maps, output = network.extract_feature(x, preReLU=self.pre_relu)
        return maps, output

    def _margins(self) -> list[Tensor]:
        margins = read_margins(self.t_net.get_bn_before_relu(), self.plan)
        for stage, margin in zip((s for s in self.plan if not s.ignored), margins, strict=True):
            if margin.isnan().any():
                raise ValueError(
                    f"stage {stage.name}: the teacher has no batch norm before its map, and the "
                    "margin is taken from it; give one in get_bn_before_relu, or ignore the stage"
                )
        return margins

    def update(self, batches: Iterable[Tensor]) -> list[StageMatching]:
        """Solve the matching from batches of images on this module's device.

        The margins are read again, in case weights were loaded into the teacher meanwhile.
        """
        self.distiller.set_margins(self._margins())
        with evaluating(self.s_net):
            pairs = ((self._maps(self.s_net, x), self._maps(self.t_net, x)) for x in batches)
            return self.distiller.solve(self.distiller.costs(pairs))

    @torch.no_grad()
    def _maps(self, network: Any, x: Tensor) -> Sequence[Tensor]:
        return self._read(network, x)[0]


class SMDistiller(MGDistiller):
    """Sparse matching: one teacher channel a student channel, the rest unused."""

    def __init__(self, t_net: nn.Module, s_net: nn.Module, **options: Any) -> None:
        super().__init__(t_net, s_net, **{**options, "reducer": "sm"})


def mgd_update(
    train_loader: Iterable[Any], d_net: nn.Module, max_images: int = 20000
) -> list[StageMatching]:
    """Solve the matching anew from training images under the evaluation transform.

    Under DistributedDataParallel give each process its own share of the images: the sums are
    added up over processes, one solves, all receive.

    Args:
        train_loader: yields images (N,3,H,W), or tuples, lists or dicts ("image", "images") that
            begin with them.
        d_net: an `MGDistiller`, or one inside DataParallel or DistributedDataParallel.
        max_images: of this process.

    Raises:
        ValueError: ``d_net`` holds no `MGDistiller`, or the loader gives no image.
    """
    module = getattr(d_net, "module", d_net)
    if not isinstance(module, MGDistiller):
        raise ValueError(
            f"d_net: got {type(module).__name__}, expected an MGDistiller, bare or inside "
            "DataParallel or DistributedDataParallel"
        )
    device = next(module.s_net.parameters()).device
    return module.update(_images(train_loader, max_images, device))


def _images(loader: Iterable[Any], most: int, device: torch.device) -> Iterator[Tensor]:
    left = most
    for batch in loader:
        if left <= 0:
            return
        images = _first(batch)[:left]
        left -= len(images)
        yield images.to(device)


def _first(batch: Any) -> Tensor:
    if isinstance(batch, dict):
        batch = batch.get("images", batch.get("image"))
    elif isinstance(batch, list | tuple):
        batch = batch[0]
    if not isinstance(batch, Tensor):
        raise ValueError(
            f"train_loader: got a batch of {type(batch).__name__}, expected images (N,3,H,W), "
            "first of a tuple or under 'images'"
        )
    return batch


def _tapped(network: nn.Module, det: bool) -> Any:
    """The network itself where it offers the three functions, else inside one that does."""
    if hasattr(network, "extract_feature"):
        return network
    return DictBackbone(network) if det and returns_dict(network) else TappedNetwork(network)


def _describe(network: nn.Module, count: int) -> tuple[list[str], list[int]]:
    """Names of the stages, and which of them are linear."""
    if isinstance(network, DictBackbone):
        return network.names, network.linear_inds
    return [f"stage{i}" for i in range(count)], []
