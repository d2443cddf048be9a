"""An epoch of the default method for every teacher with every student, and the table of docs.

    python recipes/networks.py [--out runs/networks]

The networks have random weights and see 32 images of 64 pixels: the table says what is matched to
what, not how good a student is. It ends with an error where a pair does not run.
"""

import argparse
import contextlib
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tables import last_row

from mgd_ssl.commands import pretrain
from mgd_ssl.models import create_backbone

SIZE = 64
TEACHERS = {
    "ResNet": "resnet18",
    "MobileNet v2": "mobilenet_v2",
    "EfficientNet-Lite": "tf_efficientnet_lite0",
    "ConvNeXt": "convnext_atto",
    "RegNet": "regnety_002",
    "MobileNetV3": "mobilenetv3_small_050",
    "ViT": "vit_tiny_patch16_224",
    "DINOv2 with registers": "vit_small_patch14_reg4_dinov2",
}
STUDENTS = {
    "ResNet": "resnet18",
    "MobileNet v2": "mobilenet_v2",
    "ShuffleNet v2": "shufflenet_v2_x1_0",
    "EfficientNet-Lite": "tf_efficientnet_lite0",
    "ConvNeXt": "convnext_atto",
    "RegNet": "regnety_002",
    "MobileNetV3": "mobilenetv3_small_050",
    "ViT": "vit_tiny_patch16_224",
}


def main() -> None:
    """Run all pairs, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/networks"))
    options = parser.parse_args()
    write_images(options.out / "images")
    for arch in TEACHERS.values():
        torch.manual_seed(0)
        content = {"arch": arch, "state_dict": create_backbone(arch).state_dict()}
        torch.save(content, options.out / f"{arch}.pt")
    lines = ["| teacher | " + " | ".join(STUDENTS) + " |", "|---" * (len(STUDENTS) + 1) + "|"]
    for name, teacher in TEACHERS.items():
        cells = [matched(options.out, teacher, student) for student in STUDENTS.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    (options.out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def matched(folder: Path, teacher: str, student: str) -> str:
    """Train for an epoch; the stages that were matched."""
    out = folder / f"{teacher}-{student}"
    size = ["--teacher-size", "70"] if "patch14" in teacher else []
    argv = [str(folder / "images"), "--teacher", str(folder / f"{teacher}.pt"), "-a", student]
    argv += ["--size", str(SIZE), "--epochs", "1", "-b", "16", "-j", "0", "--knn-every", "0"]
    argv += ["--health-every", "0", "--mgd-update-images", "16", "--out", str(out), "--overwrite"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = pretrain.main([*argv, *size])
    if status:
        raise SystemExit(f"{teacher} -> {student}:\n{said.getvalue()}")
    row = last_row(out)
    names = [key.rpartition("/")[2] for key in row if "/matching/" in key]
    return " ".join(name.removeprefix("layer") for name in names)


def write_images(folder: Path) -> None:
    """32 smooth color images."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for number in range(32):
        coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((72, 72), Image.Resampling.BICUBIC).save(folder / f"{number:02}.png")


if __name__ == "__main__":
    main()
