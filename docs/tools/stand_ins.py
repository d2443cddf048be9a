"""Small files under the names that README and docs/ use: images, annotations, files of weights.

The weights are random, in the layouts of their authors. Published weights are where torchvision
and the Hugging Face hub would have put them, so that nothing is downloaded.
"""

import json
import sys
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from blocks import ROOT
from PIL import Image
from safetensors.torch import save_file

sys.path.insert(0, str(ROOT / "tests" / "models" / "families"))
from official_files import dinov2_shapes, dinov3_state, random_state

LINKED = ("pretrain.py", "knn_eval.py", "linear_eval.py", "recipes", "benchmarks", "examples")
FOLDERS = ("DATA", "FOLDER", "A", "B", "C", "imagenet", "imagenet100", "FOLDER_OF_IDX_FILES")
TORCHVISION = ("resnet50", "mobilenet_v2", "retinanet_resnet50_fpn")
HUB = ("convnext_tiny.fb_in22k", "vit_small_patch14_dinov2.lvd142m")
CLASSES, TRAIN, VAL = ("bird", "car", "tree"), 20, 4
NETWORKS = "import torchvision\n\n\ndef build():\n    return torchvision.models.resnet50()\n"


def make(folder: Path, home: Path) -> None:
    """Write everything.

    Args:
        folder: where commands are to run; it also gets links to the scripts of the repository.
        home: the caches of torch and of the hub: ``home/torch`` and ``home/hub``.
    """
    folder.mkdir(parents=True)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    make_images(folder / "photos")
    for name in FOLDERS:
        (folder / name).symlink_to("photos")
    make_coco(folder / "coco")
    make_cub(folder / "CUB_200_2011", folder / "photos")
    make_weights(folder)
    make_published(home)
    (folder / "mynets").mkdir()
    (folder / "mynets" / "models.py").write_text(NETWORKS)


def make_images(folder: Path) -> None:
    """Class folders of train and val: noise around a color of the class, as JPEG."""
    random = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("val", VAL)):
        for label, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 128, (96, 128, 3), dtype=np.uint8)
                pixels[..., label] += 100
                Image.fromarray(pixels).save(folder / split / name / f"{number}.jpg")


def make_coco(folder: Path) -> None:
    """Six images a split, each with a box."""
    (folder / "annotations").mkdir(parents=True)
    box = {"category_id": 1, "bbox": [8, 8, 40, 60], "area": 2400, "iscrowd": 0}
    for split in ("train2017", "val2017"):
        (folder / split).mkdir()
        for i in range(6):
            Image.new("RGB", (96, 96), (40 * i, 90, 0)).save(folder / split / f"{i}.jpg")
        images = [{"id": i, "file_name": f"{i}.jpg", "width": 96, "height": 96} for i in range(6)]
        boxes = [{"id": i, "image_id": i, **box} for i in range(6)]
        content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def make_cub(folder: Path, photos: Path) -> None:
    """The lists of CUB-200-2011, of the photographs under names of its kind."""
    lists: dict[str, list[str]] = {
        name: [] for name in ("images", "image_class_labels", "train_test_split")
    }
    for number, path in enumerate(sorted(photos.rglob("*.jpg")), start=1):
        label = 1 + CLASSES.index(path.parent.name)
        split = path.parent.parent.name
        image = Path(f"{label:03d}.{path.parent.name}") / f"{split}-{path.name}"
        (folder / "images" / image).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / image).symlink_to(path.resolve())
        values = (image, label, int(split == "train"))
        for lines, value in zip(lists.values(), values, strict=True):
            lines.append(f"{number} {value}\n")
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("".join(lines))


def make_weights(folder: Path) -> None:
    """The teachers' files."""
    torch.manual_seed(0)
    resnet50 = torchvision.models.resnet50().state_dict()
    torch.save(resnet50, folder / "checkpoint.pth")
    torch.save(timm.create_model("regnety_032").state_dict(), folder / "regnety_032.pth")
    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), folder / "TEACHER")
    moco = {f"module.encoder_q.{key}": value for key, value in resnet50.items()}
    moco_v2 = folder / "moco_v2_200ep_pretrain.pth.tar"
    torch.save({"epoch": 200, "arch": "resnet50", "state_dict": moco}, moco_v2)
    for name in ("T", "moco_v2_800ep_pretrain.pth.tar"):
        (folder / name).symlink_to(moco_v2.name)
    torch.save(random_state(dinov2_shapes(384, 12)), folder / "dinov2_vits14_pretrain.pth")
    dinov3 = folder / "dinov3_vitb16_pretrain_lvd1689m.pth"
    torch.save(dinov3_state(128, 2, heads=2), dinov3)


def make_published(home: Path) -> None:
    """The files that torchvision and timm would download."""
    downloads = home / "torch" / "hub" / "checkpoints"
    downloads.mkdir(parents=True)
    for name in TORCHVISION:
        bare = {"weights_backbone": None} if "fpn" in name else {}
        network = torchvision.models.get_model(name, weights=None, **bare)
        for weights in torchvision.models.get_model_weights(name):
            torch.save(network.state_dict(), downloads / Path(weights.url).name)
    for name in HUB:
        cached = home / "hub" / "hub" / f"models--timm--{name}"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs" / "main").write_text("0")
        (cached / "snapshots" / "0").mkdir(parents=True)
        save_file(timm.create_model(name).state_dict(), cached / "snapshots/0/model.safetensors")
