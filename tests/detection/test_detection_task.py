"""The detection task against torchvision's own losses and maps computed by hand."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from mgd_ssl.detection.reader import body_reader
from mgd_ssl.detection.retinanet import DetectorSpec, create_detector
from mgd_ssl.detection.task import Detection, DetectorTeacher
from mgd_ssl.distiller import FeatureDistiller
from mgd_ssl.matching import channel_cost
from mgd_ssl.models import evaluating
from mgd_ssl.stages import plan_stages, read_margins

IDS = (3, 7, 20)
SMALL = {"fpn_channels": 32, "head_convs": 1, "smallest_anchor": 8.0}


def detector(width: float, ids: tuple[int, ...] = IDS, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    spec = DetectorSpec("resnet18", width, category_ids=ids, min_size=64, max_size=96, **SMALL)
    return create_detector(spec)


def make_task(**options: Any) -> Detection:
    student, teacher = detector(0.125), detector(0.25, seed=1)
    for module in teacher.modules():  # statistics and shifts as of a trained network
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.3)
    reader, teacher_reader = body_reader(student), body_reader(teacher)
    blank = torch.zeros(1, 3, 64, 64)
    with torch.no_grad(), evaluating(student, teacher):
        maps = teacher_reader.body(teacher, blank), reader.body(student, blank)
    stages = plan_stages(*maps, reader.names)
    distiller = FeatureDistiller(
        stages, read_margins(teacher_reader.norms(teacher), stages), adapter="group"
    )
    frozen = DetectorTeacher(teacher, teacher_reader, IDS)
    return Detection(student, reader, frozen, distiller=distiller, **options)


def batch() -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    generator = torch.Generator().manual_seed(2)
    images = [torch.rand(3, *side, generator=generator) for side in ((64, 64), (64, 90), (40, 40))]
    boxes = torch.tensor([[5.0, 5.0, 30.0, 35.0]])
    return images, [{"boxes": boxes, "labels": torch.tensor([i])} for i in range(3)]


def test_box_losses_are_torchvisions_own() -> None:
    student = detector(0.125)
    expected = copy.deepcopy(student).train()(*batch())
    task = Detection(student, body_reader(student))
    losses = task.train()(*batch())
    assert set(losses) == {"classification", "bbox_regression"}
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])


def test_anchors_and_targets_are_whole_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    student = detector(0.125)
    task, seen = Detection(student, body_reader(student)).train(), []
    own = student.compute_loss
    monkeypatch.setattr(
        student, "compute_loss", lambda *given: (seen.append(given), own(*given))[1]
    )
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            losses = task(*batch())
        assert all(loss.dtype == torch.float32 for loss in losses.values())
    (_, _, anchors), (_, outputs, in_half) = seen
    assert all(torch.equal(a, b) for a, b in zip(anchors, in_half, strict=True))
    assert in_half[0].dtype == torch.float32
    assert all(output.dtype == torch.float32 for output in outputs.values())


def test_the_teachers_boxes_are_whole_and_have_an_area(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = DetectorTeacher(detector(0.25), None, IDS[1:])
    images = [torch.rand(3, 64, 64)]
    teacher.network.score_thresh = 0.0
    expected = teacher.boxes(images, 1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        found = teacher.boxes(images, 1e-4)
    assert len(expected[0]["boxes"]) and torch.equal(found[0]["boxes"], expected[0]["boxes"])
    boxes = torch.tensor([[0.0, 0, 9, 9], [64, 3, 64, 9], [0, 0, 9, 9], [2, 2, 9, 9]])
    labels, scores = torch.tensor([1, 1, 0, 2]), torch.tensor([0.9, 0.9, 0.9, 0.2])
    content = [{"boxes": boxes, "labels": labels, "scores": scores}]
    monkeypatch.setattr(teacher.network, "forward", lambda _: content)
    (target,) = teacher.boxes(images, 0.5)
    assert target["boxes"].tolist() == [[0, 0, 9, 9]] and target["labels"].tolist() == [0]


def test_matching_joins_the_boxes_and_reaches_the_student_alone() -> None:
    task = make_task()
    images, targets = batch()
    task.solve([images])
    before = {k: v.clone() for k, v in task.teacher.state_dict().items()}
    losses = task.train()(images, targets)
    names = {f"matching/c{i}" for i in range(2, 6)}
    assert set(losses) == {"classification", "bbox_regression"} | names
    torch.stack([losses[n] for n in names]).sum().backward()
    assert task.student.backbone.body.conv1.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in task.teacher.parameters())
    after = task.teacher.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert not task.teacher.network.training


@pytest.mark.parametrize("boxes", [True, False])
def test_each_network_runs_its_body_once_a_step(boxes: bool) -> None:
    task = make_task(boxes=boxes)
    images, targets = batch()
    task.solve([images])
    calls: list[str] = []
    for name in ("student", "teacher.network"):
        body = task.get_submodule(f"{name}.backbone.body.conv1")
        body.register_forward_hook(lambda *_, n=name: calls.append(n))
    task.train()(images, targets)
    assert sorted(calls) == ["student", "teacher.network"]


def test_without_boxes_the_matching_is_alone() -> None:
    task = make_task(boxes=False)
    images, targets = batch()
    task.solve([images])
    losses = task.train()(images, [{} for _ in targets])
    assert set(losses) == {f"matching/c{i}" for i in range(2, 6)}


def test_statistics_leave_the_padding_out() -> None:
    """A wide image pads the others; each one's maps are those up to its own border."""
    task = make_task().eval()
    images, _ = batch()
    transformed, _ = task.student.transform(images)
    assert transformed.tensors.shape[-1] > transformed.image_sizes[0][1]  # there is padding
    pairs = list(task.map_pairs(images))
    whole = task.reader.body(task.student, transformed.tensors)
    for index, (student_maps, teacher_maps) in enumerate(pairs):
        height, width = transformed.image_sizes[index]
        for stride, mine, theirs, all_of in zip(
            (4, 8, 16, 32), student_maps, teacher_maps, whole, strict=True
        ):
            expected = (-(-height // stride), -(-width // stride))
            assert tuple(mine.shape[-2:]) == tuple(theirs.shape[-2:]) == expected
            part = all_of[index : index + 1, :, : expected[0], : expected[1]]
            assert torch.equal(mine, part)
    solved = task.solve([images])
    costs = [channel_cost(s[0], t[0]) for s, t in pairs]
    torch.testing.assert_close(solved[0].cost, torch.stack(costs).mean(0))


def test_a_teacher_of_another_normalisation_sees_the_same_images() -> None:
    task = make_task().eval()
    images, _ = batch()
    own = task.teacher.network.transform
    own.image_mean, own.image_std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
    alone, _ = own(images)
    transformed, _ = task.student.transform(images)
    got = task.teacher(
        transformed, task.student.transform.image_mean, task.student.transform.image_std
    )
    expected = task.teacher.reader.body(task.teacher.network, alone.tensors)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


class Fixed(nn.Module):
    """A detector whose detections are known."""

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [1.0, 1.0, 5.0, 5.0], [2.0, 2.0, 8.0, 8.0]])
        scores, labels = torch.tensor([0.9, 0.4, 0.8]), torch.tensor([1, 1, 0])
        return [{"boxes": boxes, "scores": scores, "labels": labels} for _ in images]


def test_the_teachers_boxes_are_given_the_students_labels() -> None:
    """Its label 1 is COCO's 20, the student's 2; its label 0, COCO's 99, the student lacks."""
    teacher = DetectorTeacher(Fixed(DetectorSpec(category_ids=(99, 20))), None, IDS)
    (target,) = teacher.boxes([torch.zeros(3, 10, 10)], 0.5)
    assert target["boxes"].tolist() == [[0.0, 0.0, 9.0, 9.0]]
    assert target["labels"].tolist() == [2]
