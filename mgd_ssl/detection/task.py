"""What a step of object detection computes, with a teacher or without one."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.image_list import ImageList

from mgd_ssl.detection.retinanet import DetectorSpec
from mgd_ssl.distiller import Maps
from mgd_ssl.tasks.task import FrozenTeacher, Task

Target = dict[str, Tensor]


class DetectorTeacher(FrozenTeacher):
    """A frozen detector whose backbone alone runs, on the student's images.

    Args:
        network: from `mgd_ssl.models.load_detector`.
        reader: from `mgd_ssl.models.body_reader`.
        category_ids: COCO ids of the student's labels, to which its own are translated.
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
        """Images normalised with ``mean`` and ``std``, and padded -> a (N,C_t,H_i,W_i) a stage."""
        own = cast(RetinaNet, self.network).transform
        tensors = batch.tensors
        if [*own.image_mean, *own.image_std] != [*mean, *std]:
            tensors = _renormalise(batch, (mean, std), (own.image_mean, own.image_std))
        maps: Maps = self.reader.body(self.network, tensors)
        return maps

    @torch.no_grad()
    def boxes(self, images: list[Tensor], threshold: float) -> list[Target]:
        """Its detections of the student's categories and such a score, as targets.

        Those that the image's border leaves less than a pixel of are none: to a box without area
        every anchor would be the nearest.
        """
        targets = []
        with _whole_precision(images[0]):
            detections = self.network(images)
        for found in detections:
            boxes, labels = found["boxes"], self.labels[found["labels"]]
            seen = (boxes[:, 2:] - boxes[:, :2] >= 1).all(1)
            kept = seen & (found["scores"] >= threshold) & (labels >= 0)
            targets.append({"boxes": boxes[kept], "labels": labels[kept]})
        return targets


class Detection(Task):
    """Images and boxes in; the detector's own losses and the matching's out.

    Student and teacher run their backbones once a step, on the same resized and padded batch.
    Source: Yue, Deng, Zhou, Matching Guided Distillation, ECCV 2020.

    Args:
        student: a RetinaNet, from `mgd_ssl.models.create_detector`.
        reader: from `mgd_ssl.models.body_reader`; its maps are those matched.
        teacher: None trains the student alone.
        boxes: whether the detector's own losses are computed; without them the matching is alone.
        teacher_boxes: score from which the teacher's detections stand for the boxes; None takes
            the images' own.
        parts: ``distiller`` of `Task`.
    """

    def __init__(
        self,
        student: RetinaNet,
        reader: Any,
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

        They are ``classification`` and ``bbox_regression`` of torchvision's RetinaNet, and
        ``matching/NAME``.
        """
        student = cast(RetinaNet, self.student)
        if self.teacher and self.teacher_boxes is not None:
            targets = cast(DetectorTeacher, self.teacher).boxes(images, self.teacher_boxes)
        batch, targets = student.transform(images, targets if self.boxes else None)
        losses: dict[str, Tensor] = {}
        if self.boxes:
            maps, features = self.reader(student, batch.tensors)  # type: ignore[misc]
            losses |= self._box_losses(batch, list(features.values()), targets)
        else:
            maps = self.reader.body(student, batch.tensors)  # type: ignore[union-attr]
        if self.teacher and self.distiller:
            losses |= self.distiller(maps, self._teacher_maps(batch))
        return losses

    def pairs(self, images: Any) -> Iterator[tuple[Maps, Maps]]:
        """A list of images (3,H,W) -> each one's maps apart, without padding, heads or boxes."""
        student = cast(RetinaNet, self.student)
        batch, _ = student.transform(images)
        student_maps = self.reader.body(student, batch.tensors)  # type: ignore[union-attr]
        teacher_maps = self._teacher_maps(batch)
        for index in range(len(images)):
            yield _unpadded(batch, student_maps, index), _unpadded(batch, teacher_maps, index)

    def _box_losses(
        self, batch: ImageList, features: list[Tensor], targets: list[Target]
    ) -> dict[str, Tensor]:
        student = cast(RetinaNet, self.student)
        outputs = student.head(features)
        with _whole_precision(batch.tensors):
            anchors = student.anchor_generator(batch, [f.float() for f in features])
            outputs = {name: output.float() for name, output in outputs.items()}
            losses: dict[str, Tensor] = student.compute_loss(targets, outputs, anchors)
        return losses

    def _teacher_maps(self, batch: ImageList) -> Maps:
        own = cast(RetinaNet, self.student).transform
        return cast(Maps, self.teacher(batch, own.image_mean, own.image_std))  # type: ignore[misc]


def _whole_precision(where: Tensor) -> torch.autocast:
    """No autocast: torchvision makes anchors and boxes of the maps' precision, pixels lost."""
    return torch.autocast(where.device.type, enabled=False)


def _unpadded(batch: ImageList, maps: Maps, index: int) -> list[Tensor]:
    """One image's part of each map, (1,C,H,W); a pixel that the image reaches into is part."""
    height, width = batch.tensors.shape[-2:]
    own_height, own_width = batch.image_sizes[index]
    parts = []
    for m in maps:
        rows = -(-own_height * m.shape[2] // height)
        columns = -(-own_width * m.shape[3] // width)
        parts.append(m[index : index + 1, :, :rows, :columns])
    return parts


Statistics = tuple[Sequence[float], Sequence[float]]


def _renormalise(batch: ImageList, before: Statistics, after: Statistics) -> Tensor:
    """The batch as other statistics would have normalised it; its padding stays zero."""
    (mean, std), (new_mean, new_std) = (
        [batch.tensors.new_tensor(v)[:, None, None] for v in pair] for pair in (before, after)
    )
    result = torch.zeros_like(batch.tensors)
    for index, (height, width) in enumerate(batch.image_sizes):
        image = batch.tensors[index, :, :height, :width]
        result[index, :, :height, :width] = (image * std + mean - new_mean) / new_std
    return result
