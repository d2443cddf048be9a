"""Forms of the default recipe on color photographs: what each part of it is worth.

    python recipes/photograph_forms.py FOLDER TEACHER CACHE [--epochs 7] [--rows NAME ...]

FOLDER has train/ and val/ of class folders; CACHE holds what TEACHER says of views of 64 pixels.
Every row trains a ResNet-18 of a quarter's width by ``mgd-plus`` with one thing changed: by its
options, or by a change of this file, which is not part of the package. A run whose results exist
is not repeated.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from tables import Row, evaluate, markdown, run_rows
from torch import Tensor, nn
from torch.nn import functional as F

from mgd_ssl import distiller
from mgd_ssl.cache.teacher_cache import TeacherCache
from mgd_ssl.commands import pretrain
from mgd_ssl.losses.simreg import SimReg
from mgd_ssl.stages import at_most
from mgd_ssl.tasks.task import TaughtView
from mgd_ssl.training.cached_data import CachedImageData

COLUMNS = {"knn20": "kNN, k 20", "linear": "linear"}
HIDDEN = 3072
GRID = 4  # of the positions that are compared
BESIDE = ("--mgd-weighing", "start", "--mgd-adapter", "expand", "--mgd-update-images", "1000")
Change = Callable[[TeacherCache], AbstractContextManager[Any]]


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--teacher-arch", help="where the file does not show it")
    parser.add_argument("--out", type=Path, default=Path("runs/photograph_forms"))
    parser.add_argument("--epochs", default="7")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="*", choices=FORMS, metavar="NAME")
    options = parser.parse_args()
    out = options.out / f"{options.epochs} epochs"
    out.mkdir(parents=True, exist_ok=True)

    def run(row: Row, seed: int) -> dict[str, Any]:
        words, change = FORMS[row.name]
        with change(TeacherCache.open(options.cache)):
            student = train(row.name, words, seed, options, out)
        part = out / f"{row.name}-{seed}.part.json"
        return evaluate(student, options.data, part, 10**9, 64, (20,), ("-j", "0"))

    rows = [Row(name, (), tuple(options.seeds)) for name in options.rows or FORMS]
    text = markdown(run_rows(rows, run, out), COLUMNS, "form")
    print(text)
    (out / "table.md").write_text(text, encoding="utf-8")


def train(
    name: str, words: tuple[str, ...], seed: int, options: argparse.Namespace, out: Path
) -> Path:
    """Train a student; its file."""
    run = out / f"run {name}-{seed}"
    given = [str(options.data), "--teacher", str(options.teacher), *words]
    given += ["--teacher-arch", options.teacher_arch] if options.teacher_arch else []
    given += ["--teacher-cache", str(options.cache), "-a", "resnet18", "--width", "0.25"]
    given += ["--epochs", options.epochs, "--seed", str(seed), "--out", str(run), "-j", "0"]
    given += ["--knn-every", "0", "--health-every", "0", "--precision", "bf16", "--channels-last"]
    if status := pretrain.main([*given, "--resume"]):
        raise SystemExit(status)
    return run / "student.safetensors"


def nothing(cache: TeacherCache) -> AbstractContextManager[Any]:
    """The package as it is."""
    return nullcontext()


def identity_channels(cache: TeacherCache) -> AbstractContextManager[Any]:
    """Each expanded channel meets the teacher's channel of its own number: no assignment."""

    def in_order(cost: Tensor, mode: str) -> Tensor:
        return torch.arange(len(cost))[:, None]

    return patch.object(distiller, "share_channels", in_order)


def standardized(distance: Callable[[Tensor, Tensor], Tensor]) -> Change:
    """The embedding's distance to the target whose channels have mean 0 and deviation 1."""

    def change(cache: TeacherCache) -> AbstractContextManager[Any]:
        outputs = all_outputs(cache, 0)
        mean, deviation = outputs.mean(0), outputs.std(0)

        def loss(self: SimReg, student: Tensor, teacher: Tensor) -> Tensor:
            target = (teacher.float() - mean) / deviation
            return distance(self.head(student).float(), target)

        return patch.object(SimReg, "forward", loss)

    return change


def cosine(student: Tensor, target: Tensor) -> Tensor:
    """2 - 2 cos, the mean over images."""
    return 2 - 2 * F.cosine_similarity(student, target).mean()


def hidden_head(cache: TeacherCache) -> AbstractContextManager[Any]:
    """Two layers with a LayerNorm and a GELU between them in place of one."""
    original = SimReg.__init__

    def build(self: SimReg, features: int, teacher_features: int, head: str = "") -> None:
        original(self, features, teacher_features, "linear")
        norm, second = nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, teacher_features)
        self.head = nn.Sequential(nn.Linear(features, HIDDEN), norm, nn.GELU(), second)

    return patch.object(SimReg, "__init__", build)


def mean_target(cache: TeacherCache) -> AbstractContextManager[Any]:
    """The embedding's target is the mean of what the teacher says of all stored views."""
    every = (all_outputs(cache, view) for view in range(cache.manifest.views))
    mean = sum(every, torch.zeros(())) / cache.manifest.views
    original = CachedImageData.views_of

    def views(self: CachedImageData, batch: Any) -> list[TaughtView]:
        return [view._replace(output=mean[batch.indices]) for view in original(self, batch)]

    return patch.object(CachedImageData, "views_of", views)


def mixed_pairs(cache: TeacherCache) -> AbstractContextManager[Any]:
    """Each image is mixed with another of its batch, and so are the teacher's answers."""
    original = CachedImageData.views_of

    def mixed(self: CachedImageData, batch: Any) -> list[TaughtView]:
        view, *_ = original(self, batch)
        share = torch.rand(len(view.images))
        other = torch.randperm(len(share))

        def mix(x: Tensor) -> Tensor:
            weight = share.view(-1, *[1] * (x.ndim - 1))
            return weight * x + (1 - weight) * x[other]

        return [TaughtView(mix(view.images), [mix(x) for x in view.maps], mix(view.output))]

    return patch.object(CachedImageData, "views_of", mixed)


def positions(start: float) -> Change:
    """Beside all else, the cosines between the positions of an image, of each stage.

    Args:
        start: what a stage's loss begins at.
    """

    @contextmanager
    def change(cache: TeacherCache) -> Iterator[None]:
        original, factors = distiller.FeatureDistiller.forward, dict[str, float]()

        def forward(self: Any, students: Any, teachers: Any) -> dict[str, Tensor]:
            losses = original(self, students, teachers)
            for stage in self.stages if torch.is_grad_enabled() else ():
                pair = students[stage.index], teachers[stage.teacher_index]
                side = min(GRID, *(x.shape[-1] for x in pair))
                own, target = (between(at_most(x.float(), side)) for x in pair)
                loss = F.mse_loss(own, target)
                factor = factors.setdefault(stage.name, start / float(loss.detach()))
                losses[f"positions/{stage.name}"] = factor * loss
            return losses

        with patch.object(distiller.FeatureDistiller, "forward", forward):
            yield

    return change


def between(x: Tensor) -> Tensor:
    """(N,C,H,W) -> (N,HW,HW) cosines between an image's positions."""
    flat = F.normalize(x.flatten(2), dim=1)
    return flat.mT @ flat


def all_outputs(cache: TeacherCache, view: int) -> Tensor:
    """(images, D): the pooled output for one view of every image."""
    parts = range(cache.manifest.parts)
    images = [torch.tensor(cache.images(part)).numpy() for part in parts]
    return torch.cat([cache.read(view, some, maps=False)["output"] for some in images]).float()


# Name -> (options, what is changed in the package).
FORMS: dict[str, tuple[tuple[str, ...], Change]] = {
    "mgd-plus": ((), nothing),
    "strength 3": (("--mgd-strength", "3"), nothing),
    "strength 10": (("--mgd-strength", "10"), nothing),
    "strength 100": (("--mgd-strength", "100"), nothing),
    "matching alone": (("--objective-weight", "0"), nothing),
    "embedding times 10": (("--objective-weight", "10"), nothing),
    "embedding alone": (("--method", "simreg", "--regression-head", "linear"), nothing),
    "groups": (("--mgd-adapter", "batch"), nothing),
    "channels in order": ((), identity_channels),
    "last stage": (("--ignore", "0", "1", "2"), nothing),
    "last two stages": (("--ignore", "0", "1"), nothing),
    "head of four layers": (("--regression-head", "four"), nothing),
    "head of two layers": ((), hidden_head),
    "standardized, cosine": ((), standardized(cosine)),
    "standardized, squared": ((), standardized(F.mse_loss)),
    "standardized, smooth L1": ((), standardized(F.smooth_l1_loss)),
    "mean target": ((), mean_target),
    "compress beside": (("--method", "compress", *BESIDE), nothing),
    "seed beside": (("--method", "seed", *BESIDE), nothing),
    "positions 3": ((), positions(3)),
    "positions 30": ((), positions(30)),
    "positions 30, no matching": (("--mgd-strength", "0.001"), positions(30)),
    "mixed pairs": ((), mixed_pairs),
    "average 0.999": (("--ema", "0.999"), nothing),
}


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
