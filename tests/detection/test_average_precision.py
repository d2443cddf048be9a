import contextlib
import copy
import io
import sys

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mgd_ssl.data import ArraySource
from mgd_ssl.detection.annotations import AnnotationTable, Objects
from mgd_ssl.detection.average_precision import coco_ap, detector_ap, to_coco
from mgd_ssl.detection.loading import DetectionBatch
from mgd_ssl.detection.sources import DetectionSource


def truth(annotations: list[dict], images=(1, 2), categories=(3, 7)) -> dict:
    return {
        "images": [{"id": i, "height": 300, "width": 300} for i in images],
        "annotations": [{"id": n, **a} for n, a in enumerate(annotations, start=1)],
        "categories": [{"id": c, "name": str(c)} for c in categories],
    }


def thing(image: int, category: int, *bbox: float, crowd: int = 0) -> dict:
    return {
        "image_id": image, "category_id": category, "bbox": list(bbox),
        "area": bbox[2] * bbox[3], "iscrowd": crowd,
    }  # fmt: skip


def found(image: int, category: int, *bbox: float, score: float = 0.9) -> dict:
    return {"image_id": image, "category_id": category, "bbox": list(bbox), "score": score}


def random_case(seed: int, images: int = 30) -> tuple[dict, list[dict]]:
    """Objects of all sizes, some crowds; detections near them, doubled, missing, at random."""
    rng = np.random.default_rng(seed)
    annotations, detections = [], []
    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 7)):
            side = np.exp(rng.uniform(np.log(10), np.log(150), 2))
            bbox = np.concatenate([rng.uniform(0, 150, 2), side])
            category = int(rng.choice([3, 7, 20]))
            annotations.append(
                thing(image, category, *bbox.tolist(), crowd=int(rng.random() < 0.1))
            )
            for _ in range(rng.integers(0, 3)):
                moved = bbox + rng.normal(0, 0.08, 4) * np.tile(side, 2)
                guess = category if rng.random() < 0.8 else int(rng.choice([3, 7, 20]))
                detections.append(found(image, guess, *moved.tolist(), score=float(rng.random())))
        for _ in range(120 if image == 1 else 2):  # more than the hundred that count
            bbox = rng.uniform(5, 140, 4).tolist()
            detections.append(found(image, 3, *bbox, score=float(rng.random())))
    return truth(annotations, range(1, images + 1), (3, 7, 20)), detections


FIGURES = ["AP", "AP50", "AP75", "APs", "APm", "APl"]


def pycocotools_figures(ground_truth: dict, detections: list[dict]) -> dict[str, float]:
    """The oracle's figures in percent; pycocotools says -1 for a size without objects."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(ground_truth)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(detections)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = zip(FIGURES, evaluation.stats.tolist(), strict=False)
    return {name: 100 * stat for name, stat in stats if stat >= 0}


# figures


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_pycocotools(seed):
    ground_truth, detections = random_case(seed)
    expected = pycocotools_figures(ground_truth, detections)
    got = coco_ap(ground_truth, detections)
    assert list(got) == FIGURES
    assert got == pytest.approx(expected, abs=1e-6)
    assert 5 < got["AP"] < 95


@pytest.mark.parametrize("seed", range(3))
def test_images_without_boxes_and_without_detections_count_as_in_pycocotools(seed):
    ground_truth, detections = random_case(seed, images=8)
    empty = {"id": 99, "height": 300, "width": 300}
    ground_truth["images"].append(empty)
    false_alarm = [found(99, 7, 5, 5, 40, 40, score=0.99)]
    for kept in ([d for d in detections if d["image_id"] > 3], detections, false_alarm):
        for given in (kept, kept + false_alarm):
            expected = pycocotools_figures(ground_truth, given)
            assert coco_ap(ground_truth, given) == pytest.approx(expected, abs=1e-6)


def test_missing_library_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(ValueError, match=r"pip install faster-coco-eval"):
        coco_ap(*random_case(0))


def test_half_right_detections_by_hand():
    """A sure wrong box halves the precision; IoU 0.78 counts at six of the ten thresholds."""
    ground_truth = truth([thing(1, 3, 0, 0, 100, 100)])
    detections = [found(1, 3, 150, 150, 100, 100, score=0.9), found(1, 3, 0, 0, 100, 78, score=0.8)]
    assert coco_ap(ground_truth, detections) == pytest.approx(
        {"AP": 30, "AP50": 50, "AP75": 50, "APl": 30}, abs=1e-9
    )


def test_perfect_detections_are_a_hundred_and_crowds_need_none():
    objects = [thing(1, 3, 10, 10, 20, 20), thing(2, 7, 0, 0, 50, 50), thing(2, 7, 9, 9, 150, 150)]
    ground_truth = truth([*objects, thing(1, 7, 0, 0, 200, 200, crowd=1)])
    detections = [found(o["image_id"], o["category_id"], *o["bbox"]) for o in objects]
    expected = dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl"), 100.0)
    assert coco_ap(ground_truth, detections) == pytest.approx(expected)


def test_no_detections_are_zero_and_sizes_without_objects_left_out():
    ground_truth = truth([thing(1, 3, 10, 10, 20, 20)])
    assert coco_ap(ground_truth, []) == {"AP": 0, "AP50": 0, "AP75": 0, "APs": 0}


def test_arguments_are_left_as_they_are_and_nothing_is_printed(capsys):
    ground_truth, detections = random_case(1)
    before = copy.deepcopy((ground_truth, detections))
    coco_ap(ground_truth, detections)
    assert (ground_truth, detections) == before and capsys.readouterr().out == ""


# detectors


def four_images() -> DetectionSource:
    """One object each, of the same place."""
    boxes = np.tile([10.0, 10, 50, 50], (4, 1))
    rows = Objects(boxes, np.zeros(4, np.int64), np.full(4, 1600.0), np.zeros(4, np.bool_))
    table = AnnotationTable([5, 6, 7, 8], [3], ["cat"], rows, np.arange(5), np.full((4, 2), 64))
    return DetectionSource(ArraySource(np.zeros((4, 64, 64), np.uint8)), table)


class Finder(torch.nn.Module):
    """Finds the object, and with ``label`` 1 something of a category that the data lacks."""

    label = 0

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        boxes, scores = torch.tensor([[10.0, 10, 50, 50]]), torch.ones(1)
        labels = torch.tensor([self.label])
        return [{"boxes": boxes, "scores": scores, "labels": labels} for _ in images]


def measured(network: torch.nn.Module, failed: list[int]) -> dict[str, float]:
    images = [torch.zeros(3, 64, 64, dtype=torch.uint8)] * 4
    used = torch.tensor([i if f < 0 else (i + 1) % 4 for i, f in enumerate(failed)])
    batch = DetectionBatch(images, [], used, torch.tensor(failed))
    return detector_ap(network, four_images(), [batch], category_ids=[3, 9], device="cpu")


def test_unreadable_images_are_left_out_with_their_boxes():
    for failed, count in (([-1, -1, -1, -1], 4), ([-1, 1, -1, 3], 2)):
        found = measured(Finder(), failed)
        assert found["AP"] == pytest.approx(100)  # a box without a detection would lower it
        assert (found["images"], found["unreadable"]) == (count, 4 - count)
    with pytest.raises(ValueError, match="0 images without an object to find"):
        measured(Finder(), [0, 1, 2, 3])


def test_detections_of_categories_that_the_data_lacks_do_not_count():
    other = Finder()
    other.label = 1
    assert measured(other, [-1] * 4)["AP"] == 0


# what is refused


@pytest.mark.parametrize("annotations", [[], [thing(1, 3, 0, 0, 9, 9, crowd=1)]])
def test_ground_truth_without_objects_is_refused(annotations):
    with pytest.raises(ValueError, match="2 images without an object to find; expected"):
        coco_ap(truth(annotations), [])


@pytest.mark.parametrize(
    "detection",
    [
        found(1, 3, 0, 0, 9, 9, score=float("nan")),
        found(1, 3, 0, 0, float("inf"), 9),
    ],
)
def test_detections_that_are_not_finite_are_refused(detection):
    with pytest.raises(ValueError, match="box or score is not finite"):
        coco_ap(truth([thing(1, 3, 0, 0, 9, 9)]), [found(1, 3, 0, 0, 9, 9), detection])


# detections as entries


def test_entries_have_width_and_height_and_the_ids_of_the_labels():
    output = {
        "boxes": torch.tensor([[1.0, 2.0, 4.0, 6.5], [0.0, 0.0, 8.0, 2.0]]),
        "scores": torch.tensor([0.5, 0.25]),
        "labels": torch.tensor([2, 0]),
    }
    entries = to_coco(output, 42, [3, 7, 20])
    assert entries == [found(42, 20, 1, 2, 3, 4.5, score=0.5), found(42, 3, 0, 0, 8, 2, score=0.25)]


def test_no_boxes_are_no_entries():
    none = torch.zeros(0)
    output = {"boxes": torch.zeros(0, 4), "scores": none, "labels": none.long()}
    assert to_coco(output, 1, [3]) == []
