"""The losses of a training step of object detection, with or without a teacher."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.image_list import ImageList

from mgd_ssl.detection.reader import BodyReader
from mgd_ssl.detection.retinanet import DetectorSpec
from mgd_ssl.targets import Maps
from mgd_ssl.tasks.task import FrozenTeacher, Task

Target = dict[str, Tensor]


class DetectorTeacher(FrozenTeacher):
    """A frozen detector. Matching runs its backbone alone, on the student's images.

    Args:
        network: from `load_detector`.
        reader: from `body_reader`.
        category_ids: COCO ids of the student's labels; the teacher's are translated to them.
    """

    labels: Tensor

    def __init__(self, network: nn.Module, reader: Any, category_ids: Sequence[int] = ()) -> None:
        super().__init__(network, reader)
        place = {category: label for label, category in enumerate(category_ids)}
        own = cast(DetectorSpec, network.spec).category_ids
        labels = torch.tensor([place.get(category, -1) for category in own])
        self.register_buffer("labels", labels, persistent=False)

    @torch.no_grad()
    def forward(self, batch: ImageList, mean: Sequence[float], std: Sequence[float]) -> Maps:
        """Padded images, normalized with ``mean`` and ``std`` -> one (N,C_t,H_i,W_i) a stage."""
        own = cast(RetinaNet, self.network).transform
        tensors = batch.tensors
        if [*own.image_mean, *own.image_std] != [*mean, *std]:
            tensors = _renormalize(batch, (mean, std), (own.image_mean, own.image_std))
        maps: Maps = self.reader.body(self.network, tensors)
        return maps

    @torch.no_grad()
    def boxes(self, images: list[Tensor], threshold: float) -> list[Target]:
        """The teacher's detections with a score of at least ``threshold``, as targets.

        Detections of categories that the student does not have are dropped. So are boxes that
        clipping to the image left narrower than a pixel: every anchor would match them.
        """
        targets = []
        with _without_autocast(images[0]):
            detections = self.network(images)
        for found in detections:
            boxes, labels = found["boxes"], self.labels[found["labels"]]
            visible = (boxes[:, 2:] - boxes[:, :2] >= 1).all(1)
            kept = visible & (found["scores"] >= threshold) & (labels >= 0)
            targets.append({"boxes": boxes[kept], "labels": labels[kept]})
        return targets


class Detection(Task):
    """Computes the detector's own losses and those of the matching from images and boxes.

    Student and teacher run their backbones once a step, on the same resized and padded batch.
    Source: Yue, Deng, Zhou, Matching Guided Distillation, ECCV 2020.

    Args:
        student: a RetinaNet, from `create_detector`.
        reader: from `body_reader`; the maps that it reads are matched.
        teacher: None trains the student alone.
        boxes: whether to compute the detector's own losses; if not, only the maps are matched.
        teacher_boxes: least score of the teacher's detections that replace the images' own boxes;
            None keeps the images' own.
        parts: ``distiller`` of `Task`.
    """

    reader: BodyReader

    def __init__(
        self,
        student: RetinaNet,
        reader: BodyReader,
        teacher: DetectorTeacher | None = None,
        *,
        boxes: bool = True,
        teacher_boxes: float | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(student, nn.Identity(), reader, teacher, **parts)
        self.boxes, self.teacher_boxes = boxes, teacher_boxes

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Images (3,H,W) in [0,1], boxes and labels -> named losses.

        The names are torchvision's ``classification`` and ``bbox_regression``, and
        ``matching/NAME`` for each stage.
        """
        student = cast(RetinaNet, self.student)
        if self.teacher and self.teacher_boxes is not None:
            targets = cast(DetectorTeacher, self.teacher).boxes(images, self.teacher_boxes)
        batch, targets = student.transform(images, targets if self.boxes else None)
        losses: dict[str, Tensor] = {}
        if self.boxes:
            maps, features = self.reader(student, batch.tensors)
            losses |= self._box_losses(batch, list(features.values()), targets)
        else:
            maps = self.reader.body(student, batch.tensors)
        if self.teacher and self.distiller:
            losses |= self.distiller(maps, self._teacher_maps(batch))
        return losses

    def map_pairs(self, images: Any) -> Iterator[tuple[Maps, Maps]]:
        """Images (3,H,W) -> the maps of each image by itself, with the padding cut off."""
        student = cast(RetinaNet, self.student)
        batch, _ = student.transform(images)
        student_maps = self.reader.body(student, batch.tensors)
        teacher_maps = self._teacher_maps(batch)
        for index in range(len(images)):
            yield (
                _without_padding(batch, student_maps, index),
                _without_padding(batch, teacher_maps, index),
            )

    def _box_losses(
        self, batch: ImageList, features: list[Tensor], targets: list[Target]
    ) -> dict[str, Tensor]:
        student = cast(RetinaNet, self.student)
        outputs = student.head(features)
        with _without_autocast(batch.tensors):
            anchors = student.anchor_generator(batch, [f.float() for f in features])
            outputs = {name: output.float() for name, output in outputs.items()}
            losses: dict[str, Tensor] = student.compute_loss(targets, outputs, anchors)
        return losses

    def _teacher_maps(self, batch: ImageList) -> Maps:
        own = cast(RetinaNet, self.student).transform
        return cast(Maps, self.teacher(batch, own.image_mean, own.image_std))  # type: ignore[misc]


def _without_autocast(where: Tensor) -> torch.autocast:
    """Autocast off: anchors and boxes of half precision would be off by pixels."""
    return torch.autocast(where.device.type, enabled=False)


def _without_padding(batch: ImageList, maps: Maps, index: int) -> list[Tensor]:
    """One image's part of each map, (1,C,H,W), including cells that the image covers partly."""
    height, width = batch.tensors.shape[-2:]
    own_height, own_width = batch.image_sizes[index]
    parts = []
    for m in maps:
        rows = -(-own_height * m.shape[2] // height)
        columns = -(-own_width * m.shape[3] // width)
        parts.append(m[index : index + 1, :, :rows, :columns])
    return parts


Statistics = tuple[Sequence[float], Sequence[float]]


def _renormalize(batch: ImageList, before: Statistics, after: Statistics) -> Tensor:
    """The batch normalized with other statistics; its padding stays zero."""
    (mean, std), (new_mean, new_std) = (
        [batch.tensors.new_tensor(v)[:, None, None] for v in pair] for pair in (before, after)
    )
    result = torch.zeros_like(batch.tensors)
    for index, (height, width) in enumerate(batch.image_sizes):
        image = batch.tensors[index, :, :height, :width]
        result[index, :, :height, :width] = (image * std + mean - new_mean) / new_std
    return result
