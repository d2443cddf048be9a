"""A model card is read by the hub's own reader, and says what the run's files say."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from official_files import dinov2_shapes, random_state
from tiny_runs import arguments

from mgd_ssl.commands import export, knn_eval, pretrain
from mgd_ssl.models import create_backbone


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> Path:
    """A run that was measured."""
    out = tmp_path_factory.mktemp("card") / "run"
    assert pretrain.main(arguments(out, teacher, "--epochs", "1")) == 0
    last = str(out / "checkpoints/last.pt")
    words = ["--limit", "64", "--limit-val", "50", "--knn-k", "5", "--knn-t", "0.1", "--size", "32"]
    assert knn_eval.main([last, *words]) == 0
    return out


def card_of(path: Path, to: str = "safetensors") -> ModelCard:
    assert export.main([str(path), "--to", to, "--out", str(path.parent / "a.safetensors")]) == 0
    return ModelCard.load(path.parent / "a.safetensors.md")


def test_a_card_names_the_teacher_the_recipe_and_the_figures_of_a_run(run, teacher):
    card = card_of(run / "checkpoints/last.pt")
    digest = hashlib.sha256(teacher.read_bytes()).hexdigest()
    assert f"- Teacher: `{teacher.name}`, architecture `resnet18`" in card.text
    assert f"SHA-256 of `{teacher.name}` `{digest}`" in card.text
    assert "- Method: `mgd`" in card.text
    assert "- Epochs: `1`" in card.text
    assert "- Images used: `64`" in card.text
    (found, *_) = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert f"- Weight decay: `{found['found/weight_decay']:.3g} (found)`" in card.text
    assert f"- Of the weights `{teacher.name}`: unknown" in card.text
    assert card.data.license == "unknown"
    assert card.data.to_dict()["library_name"] == "safetensors"
    assert card.data.pipeline_tag == "image-feature-extraction"
    measured = yaml.safe_load((run / "checkpoints/last.pt.knn.json").read_text())
    (figure,) = card.data.eval_results
    assert figure.metric_value == measured["knn"][0]["top1"]
    assert figure.metric_name == "kNN, moco, k 5, T 0.1, size 32"
    assert figure.dataset_name == "embedded sample of Fashion-MNIST"
    row = f"{figure.metric_value:.2f} | {figure.dataset_name} | 64 train / 50 val |"
    assert row in card.text


def test_a_figure_stands_with_the_images_that_it_was_measured_on(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    path = copy / "checkpoints/last.pt.knn.json"
    measured = json.loads(path.read_text()) | {"data": "/home/me/birds + hf:them/cats"}
    path.write_text(json.dumps(measured))
    card = card_of(copy / "checkpoints/last.pt")
    (figure,) = card.data.eval_results
    assert figure.dataset_name == "birds + hf:them/cats"
    assert "/home/me" not in card.content


def test_the_index_has_the_figure_of_the_most_images_and_the_table_all(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    path = copy / "checkpoints/last.pt.knn.json"
    measured = json.loads(path.read_text())
    for name, top1, train, val in (
        ("2", 20.0, 640, 6),
        ("3", 30.0, 100, 500),
        ("4", 40.0, 99, 500),
    ):
        row = measured["knn"][0] | {"top1": top1}
        more = {"train_images": train, "val_images": val, "knn": [row]}
        path.with_name(f"last.pt.knn-{name}.json").write_text(json.dumps(measured | more))
    card = card_of(copy / "checkpoints/last.pt")
    (figure,) = card.data.eval_results
    assert (figure.metric_name, figure.metric_value) == ("kNN, moco, k 5, T 0.1, size 32", 30.0)
    for images in ("64 train / 50 val", "640 train / 6 val", "100 train / 500 val"):
        assert card.text.count(f"| {images} |") == 1


def test_figures_of_two_recipes_have_two_names_in_the_index(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    path = copy / "checkpoints/last.pt.knn.json"
    measured = json.loads(path.read_text())
    del measured["knn"]
    for epochs, seed in ((2, 0), (100, 0), (100, 1)):
        probe = {"protocol": "linear, cached", "epochs": epochs, "seed": seed, "top1": 50.0}
        path.with_name(f"{epochs}-{seed}.json").write_text(json.dumps(measured | probe))
    path.unlink()
    names = [
        figure.metric_name for figure in card_of(copy / "checkpoints/last.pt").data.eval_results
    ]
    recipes = (
        "epochs 100, size 32, seed 0",
        "epochs 100, size 32, seed 1",
        "epochs 2, size 32, seed 0",
    )
    assert names == [f"linear, cached, {recipe}" for recipe in recipes]


def test_a_card_states_the_crop_of_evaluations(tmp_path):
    torch.manual_seed(0)
    torch.save(create_backbone("resnet18", width=0.125).state_dict(), tmp_path / "own.pt")
    words = [str(tmp_path / "own.pt"), "--out", str(tmp_path / "a.safetensors"), "--size", "112"]
    assert export.main(words) == 0
    crop = "the shorter side resized to 128 pixels (bilinear, antialiased), then the center of 112"
    assert (
        f"- Crop in evaluations: {crop} by 112 pixels.\n" in ModelCard.load(f"{words[2]}.md").text
    )


def test_a_card_shows_no_folder_of_the_machine(run):
    card = card_of(run / "student.safetensors")
    assert str(run.parent) not in card.content


def test_a_run_that_is_not_at_its_end_says_so(run, tmp_path):
    content = torch.load(run / "checkpoints/last.pt", weights_only=True)
    content["config"]["optim"] |= {"epochs": 3, "lr": 0.0}
    content.pop("provenance")
    torch.save(content, tmp_path / "early.pt")
    card = card_of(tmp_path / "early.pt")
    assert "- Epochs: `1 of 3`" in card.text
    assert "- Learning rate: `found`" in card.text
    assert "- Teacher: `teacher.pth.tar`, by the run's settings" in card.text


def test_what_no_file_says_is_called_unknown(tmp_path):
    torch.manual_seed(0)
    torch.save(create_backbone("resnet18", width=0.125).state_dict(), tmp_path / "own.pt")
    card = card_of(tmp_path / "own.pt")
    assert "- Teacher: unknown" in card.text
    assert "- Data: unknown" in card.text
    assert "- Recipe: unknown" in card.text
    assert card.text.count("Not measured") == 1
    assert card.data.eval_results is None
    assert "distillation" not in card.data.tags


def test_terms_of_published_weights_are_stated_as_theirs(tmp_path):
    path = tmp_path / "dinov2_vits14_pretrain.pth"
    torch.save(random_state(dinov2_shapes(128, 2, side=4)), path)
    words = [str(path), "--size", "28", "--out", str(tmp_path / "a.safetensors")]
    assert export.main(words) == 0
    card = ModelCard.load(tmp_path / "a.safetensors.md")
    said = "`dinov2_vits14_pretrain.pth`: Apache-2.0 (weights that Meta publishes in this layout)"
    assert said in card.text
    assert card.data.license == "unknown"


def test_names_in_a_file_are_no_markdown(tmp_path):
    torch.manual_seed(0)
    state = create_backbone("resnet18", width=0.125).state_dict()
    said = {"teacher": {"source": "a`\n# b", "license": "c\n---\nd"}}
    torch.save({"state_dict": state, "provenance": said}, tmp_path / "own.pt")
    card = card_of(tmp_path / "own.pt")
    assert "\n# b" not in card.content
    assert "\n---\nd" not in card.content
