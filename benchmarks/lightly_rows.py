"""lightly-train's rows of side_by_side.py: found, asked for the same, read back."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mgd_ssl.models import BackboneSpec, backbone_state, create_backbone, load_backbone
from mgd_ssl.settings.views import ViewOptions
from mgd_ssl.training.checkpoint import export_student

SCRIPT = Path(__file__).with_name("lightly_student.py")
VERSION = "0.18.0"
HOW = (
    f"python -m venv LIGHTLY && LIGHTLY/bin/pip install lightly-train=={VERSION}, "
    "then --lightly LIGHTLY/bin/python"
)
ASK = "from importlib.metadata import version; print(version('lightly-train'))"
EMBEDDING: dict[str, Any] = {"method_args": {"loss_local_weight": 0.0}}
# The defaults first: method "distillation" (a global and a local loss), AdamW at 5e-4 for a batch
# of 1536, scaled by the root of the batch. A run as short as these wants more, so it is given more
# too: of x4 to x256 over 92 steps, x32 and x64 were best. On a CPU it computes in float32 unless
# told otherwise. "embedding" is the global loss alone. The methods distillationv1 and v2 read no
# teachers but DINOv2 and DINOv3, so they are not here; v1 has the loss and the optimizer of
# "embedding, LARS".
ROWS: dict[str, dict[str, Any]] = {
    "lightly-train": {},
    "lightly-train, lr x16": {"optim_args": {"lr": 0.008}},
    "lightly-train, lr x32": {"optim_args": {"lr": 0.016}},
    "lightly-train, lr x64": {"optim_args": {"lr": 0.032}},
    "lightly-train, lr x32, batches of 32": {"optim_args": {"lr": 0.016}, "batch_size": 32},
    "lightly-train, lr x64, batches of 32": {"optim_args": {"lr": 0.032}, "batch_size": 32},
    "lightly-train, lr x128, batches of 32": {"optim_args": {"lr": 0.064}, "batch_size": 32},
    "lightly-train, lr x256, batches of 32": {"optim_args": {"lr": 0.128}, "batch_size": 32},
    "lightly-train, lr x64, batches of 32, bf16": {
        "optim_args": {"lr": 0.032},
        "batch_size": 32,
        "precision": "bf16-mixed",
    },
    "lightly-train, embedding, lr x32": {**EMBEDDING, "optim_args": {"lr": 0.016}},
    "lightly-train, embedding, LARS": {**EMBEDDING, "optim": "lars"},
    "lightly-train, embedding, LARS, lr x8": {
        **EMBEDDING,
        "optim": "lars",
        "optim_args": {"lr": 14.4},
    },
}


@dataclass(frozen=True)
class Setting:
    """What is the same for every row.

    Attributes:
        images: folder of the training images.
        teacher: its checkpoint.
        student: what builds the student.
        views: what the augmented views are drawn from.
        size: side of the views in pixels.
        batch: images a step.
        epochs: passes over the images.
        threads: of the one process that trains.
        arch: the teacher's, where its file does not show it.
    """

    images: Path
    teacher: Path
    student: BackboneSpec
    views: ViewOptions
    size: int
    batch: int
    epochs: int
    threads: int
    arch: str | None = None


def find(python: Path | None) -> Path | None:
    """The Python that lightly-train is installed for: the one given, else this one.

    Returns:
        None, and says how to install it, where none was given and this one lacks it.

    Raises:
        SystemExit: the one given lacks it.
    """
    asked = python or Path(sys.executable)
    try:
        answer = subprocess.run([asked, "-c", ASK], capture_output=True, text=True)
        found = answer.returncode == 0
    except OSError:
        found = False
    if found:
        return asked
    if python is not None:
        raise SystemExit(f"--lightly: got {python}, which cannot import lightly-train; {HOW}")
    print(f"lightly-train is not installed: its rows are left out. To have them: {HOW}")
    return None


def transform_args(
    views: ViewOptions, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> dict[str, Any]:
    """A view's parameters in lightly-train's words; no blur, which the rows do without.

    Raises:
        ValueError: views with blur.
    """
    if views.blur_p:
        raise ValueError(f"views: got blur_p {views.blur_p}, expected 0")
    jitter = {
        name: getattr(views, f"jitter_{name}")
        for name in ("brightness", "contrast", "saturation", "hue")
    }
    return {
        "image_size": [size, size],
        "random_resize": {"min_scale": views.crop_min, "max_scale": views.crop_max},
        "random_flip": {"horizontal_prob": views.flip_p, "vertical_prob": 0.0},
        "color_jitter": {"prob": views.jitter_p, "strength": 1.0, **jitter},
        "random_gray_scale": views.gray_p or None,
        "gaussian_blur": None,
        "solarize": None,
        "normalize": {"mean": mean, "std": std},
    }


def train(python: Path, name: str, seed: int, setting: Setting, out: Path) -> dict[str, Any]:
    """Distill one student; its weights end in ``out / "student.safetensors"``.

    Returns:
        ``steps``, the clock at which each began; ``seconds`` of the whole call; ``versions``.
    """
    network, report = load_backbone(setting.teacher, arch=setting.arch)
    out.mkdir(parents=True, exist_ok=True)
    torch.save(backbone_state(network), out / "teacher.pt")
    job = {
        "threads": setting.threads,
        "teacher": report.spec.to_dict(),
        "weights": str(out / "teacher.pt"),
        "student": setting.student.to_dict(),
        "pretrain": {
            "out": str(out / "lightly"),
            "overwrite": True,
            "data": str(setting.images),
            "epochs": setting.epochs,
            "batch_size": setting.batch,
            "num_workers": 0,
            "precision": "32-true",
            "seed": seed,
            "transform_args": transform_args(setting.views, setting.size, report.mean, report.std),
            "callbacks": {"model_checkpoint": None},  # the exported weights are enough
            "loggers": {"tensorboard": None},
            **ROWS[name],
        },
    }
    (out / "job.json").write_text(json.dumps(job, indent=2))
    subprocess.run([python, "-P", SCRIPT, out / "job.json"], env=_offline(out, job), check=True)
    student = create_backbone(**setting.student.to_dict())
    weights = torch.load(
        out / "lightly" / "exported_models" / "exported_last.pt", weights_only=True
    )
    student.load_state_dict(weights)
    export_student(
        out / "student.safetensors",
        backbone_state(student),
        setting.student,
        {"mean": list(report.mean), "std": list(report.std)},
        setting.size,
    )
    result: dict[str, Any] = json.loads((out / "lightly" / "steps.json").read_text())
    return result


def _offline(out: Path, job: dict[str, Any]) -> dict[str, str]:
    """The environment: nothing is fetched or sent, files stay in the row's folder."""
    threads = str(job["threads"])
    return os.environ | {
        "OMP_NUM_THREADS": threads,
        "OPENCV_FOR_THREADS_NUM": threads,
        "LIGHTLY_TRAIN_EVENTS_DISABLED": "1",
        "LIGHTLY_TRAIN_CACHE_DIR": str(out / "cache"),
        "HF_HUB_OFFLINE": "1",
    }
