"""The examples of CONTRIBUTING.md do what they say, and the files that it names are there."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

import mgd_ssl
from mgd_ssl.data.reader import Wanted
from mgd_ssl.exporting.comparison import compare
from mgd_ssl.exporting.original import InputContract, Original
from mgd_ssl.matching import gather_groups, gather_margin, group_mask
from mgd_ssl.models import create_backbone, load_backbone

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


@pytest.fixture(scope="module")
def examples() -> SimpleNamespace:
    names: dict[str, object] = {"__name__": __name__}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(block, names)
    return SimpleNamespace(**names)


def test_the_reducer_is_the_median_of_each_groups_members(examples: SimpleNamespace) -> None:
    torch.manual_seed(0)
    teacher, margin = torch.randn(2, 4, 3, 3), -torch.rand(4)
    assignment = torch.tensor([[0, 2, 3], [1, -1, -1]])
    map_, margins = examples.median(
        gather_groups(teacher, assignment),
        gather_margin(margin, assignment),
        group_mask(assignment),
    )
    expected = np.stack([np.median(teacher[:, [0, 2, 3]], axis=1), teacher[:, 1]], axis=1)
    np.testing.assert_array_equal(map_, expected)
    np.testing.assert_array_equal(margins, [np.median(margin[[0, 2, 3]]), margin[1]])


def test_the_objective_is_zero_where_the_student_points_where_its_teacher_does(
    examples: SimpleNamespace,
) -> None:
    objective, features = examples.Cosine(), torch.eye(3)
    layer = objective.build(SimpleNamespace(num_features=3), 3)
    layer.load_state_dict({"weight": 2 * torch.eye(3), "bias": torch.zeros(3)})
    step = SimpleNamespace(student=features, teacher=features)
    assert objective.losses(layer, step)["cosine"].item() == pytest.approx(0, abs=1e-6)
    step.teacher = features.roll(1, 0)
    assert objective.losses(layer, step)["cosine"].item() == pytest.approx(1)


def test_the_data_format_opens_an_array(examples: SimpleNamespace, tmp_path: Path) -> None:
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    np.save(tmp_path / "a.npy", images)
    source = examples.READER.find(tmp_path / "a.npy")(Wanted("train"))
    np.testing.assert_array_equal(np.asarray(source.read(1)), images[1])
    assert examples.READER.find(tmp_path / "a.zip") is None


def test_the_export_target_loads_what_it_wrote(examples: SimpleNamespace, tmp_path: Path) -> None:
    torch.save(create_backbone("resnet18", width=0.125).state_dict(), tmp_path / "a.pt")
    network, report = load_backbone(tmp_path / "a.pt")
    original = Original(network, report, InputContract(32, report.mean, report.std))
    target = examples.Pth()
    target.write(original, tmp_path / "b.pth")
    images = torch.randn(3, 3, 32, 32)
    (found,) = compare(original.run, target.load(original, tmp_path / "b.pth"), images)
    assert found.max_abs_difference == 0 and found.agrees


def test_every_place_that_is_named_is_there() -> None:
    places = re.findall(r"`((?:mgd_ssl|tests)/[\w/.]+)`", TEXT)
    assert len(places) > 15
    assert [place for place in places if not (ROOT / place).exists()] == []
    registries = re.findall(r"`([A-Z_]{4,})` of\s+`([\w/.]+)`", TEXT)
    assert len(registries) >= 5
    assert [r for r in registries if f"{r[0]}" not in (ROOT / r[1]).read_text()] == []


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == mgd_ssl.__version__
    assert citation["references"][0]["title"] == "Matching Guided Distillation"
