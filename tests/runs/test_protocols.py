"""The evaluators' protocols, by features and votes computed by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from image_files import class_tree
from torch import Tensor

from mgd_ssl.commands import knn_eval, linear_eval
from mgd_ssl.evaluation.linear import linear_probe
from mgd_ssl.models import create_backbone
from mgd_ssl.runs.evaluated_network import EvaluatedNetwork
from mgd_ssl.settings.evaluation import KnnConfig
from mgd_ssl.settings.parsing import complete

pytest.importorskip("timm")
Capture = pytest.CaptureFixture[str]
ARCH, SIZE = "timm/vit_tiny_patch16_224", 32
# pools its patches, so that its class token is not what it pools
NETWORK: dict[str, Any] = {"arch": ARCH, "options": {"global_pool": "avg", "fc_norm": False}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    class_tree(root / "train", {"a": 14, "b": 10, "c": 6})
    class_tree(root / "val", {"a": 5, "b": 4, "c": 3})
    return root


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "vit.pt"
    state = create_backbone(**NETWORK).state_dict()
    torch.save({"arch": ARCH, "backbone": NETWORK, "state_dict": state}, path)
    return path


def tokens(folder: Path, file: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Split -> the tokens (N,L,D) that timm's own network gives, float64, and the labels."""
    config = complete(KnnConfig, checkpoint=file, data=folder, size=SIZE, workers=0)
    evaluated = EvaluatedNetwork(config, ("the bank", "kNN"))
    network = create_backbone(**NETWORK).eval()
    network.load_state_dict(torch.load(file, weights_only=True)["state_dict"])
    found = {}
    for split in ("train", "val"):
        batches = list(evaluated.loader(split))
        images = torch.cat([evaluated.transform(batch.images) for batch in batches])
        with torch.no_grad():
            read = network.forward_features(images).double()
        found[split] = read, torch.cat([batch.labels for batch in batches])
    return found


def vote(bank: Tensor, labels: Tensor, queries: Tensor, k: int, temperature: float) -> Tensor:
    """Classes (Q,) by DINOv2's vote: weights softmax(cosine / T) over the k nearest."""
    unit = torch.nn.functional.normalize
    cosines, rows = (unit(queries) @ unit(bank).T).topk(k)
    weights = torch.softmax(cosines / temperature, dim=1)
    classes = torch.nn.functional.one_hot(labels[rows], 3).double()
    return (weights[..., None] * classes).sum(dim=1).argmax(dim=1)


def evaluate(command: Any, file: Path, folder: Path, out: Path, *more: str) -> dict[str, Any]:
    argv = [str(file), str(folder), "--size", str(SIZE), "-j", "0", "--out", str(out), *more]
    assert command.main(argv) == 0
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def test_dinov2s_knn_votes_by_the_class_token_and_says_so(
    folder: Path, vit: Path, tmp_path: Path, capsys: Capture
) -> None:
    result = evaluate(knn_eval, vit, folder, tmp_path / "knn.json", "--protocol", "dinov2")
    said = " ".join("".join(capsys.readouterr()).split())
    assert "protocol kNN, dinov2, features cls, size 32" in said
    assert (result["protocol"], result["features"]) == ("kNN, dinov2", "cls")
    assert [(row["k"], row["temperature"]) for row in result["knn"]] == [(10, 0.07), (20, 0.07)]
    read = tokens(folder, vit)
    (bank, labels), (queries, truth) = read["train"], read["val"]
    config = complete(
        KnnConfig, checkpoint=vit, data=folder, protocol="dinov2", size=SIZE, workers=0
    )
    used = EvaluatedNetwork(config, ("the bank", "kNN")).features("val").features
    torch.testing.assert_close(used.double(), queries[:, 0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(queries[:, 0], queries[:, 1:].mean(dim=1), atol=1e-2)
    for row in result["knn"]:
        voted = vote(bank[:, 0], labels, queries[:, 0], int(row["k"]), 0.07)
        assert row["top1"] == pytest.approx(100 * (voted == truth).double().mean().item())


def test_the_other_protocol_is_named_as_well(folder: Path, vit: Path, tmp_path: Path) -> None:
    result = evaluate(knn_eval, vit, folder, tmp_path / "knn.json")
    assert (result["protocol"], result["features"]) == ("kNN, moco", "pooled")
    assert {row["k"] for row in result["knn"]} == {1, 10, 20}  # of a bank of 30 images


def test_the_linear_probe_sees_class_token_and_mean_of_patches(
    folder: Path, vit: Path, tmp_path: Path, capsys: Capture
) -> None:
    given = ["--features", "cls+patches", "--epochs", "3", "--learning-rates", "0.1"]
    result = evaluate(linear_eval, vit, folder, tmp_path / "linear.json", *given)
    said = " ".join("".join(capsys.readouterr()).split())
    assert "features cls+patches" in said and result["features"] == "cls+patches"
    rows = {}
    for split, (read, labels) in tokens(folder, vit).items():
        features = torch.cat([read[:, 0], read[:, 1:].mean(dim=1)], dim=1)
        rows[split] = features.float(), labels
    by_hand = linear_probe(*rows["train"], *rows["val"], learning_rates=[0.1], epochs=3)
    assert result["train_loss"] == pytest.approx(by_hand["train_loss"], rel=1e-4)
    assert result["top1"] == pytest.approx(by_hand["top1"])


def test_mocos_linear_protocol_trains_a_layer_on_both(
    folder: Path, vit: Path, tmp_path: Path
) -> None:
    head = tmp_path / "head.pt"
    given = ["--protocol", "moco", "--features", "cls+patches", "--epochs", "1", "-b", "15"]
    given += ["--schedule", "--save-head", str(head)]
    evaluate(linear_eval, vit, folder, tmp_path / "linear.json", *given)
    assert torch.load(head, weights_only=True)["fc"]["weight"].shape == (3, 2 * 192)


@pytest.mark.parametrize("more", [["--features", "cls"], ["--protocol", "dinov2"]])
def test_a_resnet_has_no_class_token(
    folder: Path, teacher: Path, tmp_path: Path, capsys: Capture, more: list[str]
) -> None:
    argv = [
        str(teacher),
        str(folder),
        "--size",
        "32",
        "-j",
        "0",
        "--out",
        str(tmp_path / "o"),
        *more,
    ]
    assert knn_eval.main(argv) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "features: got cls for ThinResNet, which has no tokens, expected pooled" in said
    assert "--features pooled" in said and not (tmp_path / "o").exists()
    pooled = [*argv, "--features", "pooled"] if more[0] == "--protocol" else argv[:-2]
    assert knn_eval.main(pooled) == 0
