"""What forms.py trains on: views of every step, and the teacher's answers to them, kept on disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mgd_ssl.data import View, eval_transform, make_loader, open_source, random_crops, subset
from mgd_ssl.data.views import to_unit
from mgd_ssl.models import find_reader, load_backbone
from mgd_ssl.settings.views import preset

SIZE, BATCH, SOLVE_IMAGES = 32, 128, 2048
VIEWS = preset("small", crop_min=0.5, jitter_hue=0.0, jitter_saturation=0.0, gray_p=0.0)


class Cache:
    """Views of every step, the teacher's maps and pooled features of them, on disk."""

    def __init__(self, path: Path, data: Path, teacher: Path, images: int, epochs: int) -> None:
        self.path, self.epochs, self.steps = path, epochs, images // BATCH
        self.network, self.report = load_backbone(teacher)
        self.reader = find_reader(self.network, [], SIZE)
        self.transform = eval_transform(self.report.mean, self.report.std)
        self.source = subset(open_source(data, "train", labeled=True), images)
        self.test = open_source(data, "val", labeled=True)
        made_from = f"{data.resolve()}, {teacher.resolve()}, {images} images, {epochs} epochs\n"
        if not (path / "done").exists():
            self._fill()
            (path / "done").write_text(made_from)
        elif (found := (path / "done").read_text()) != made_from:
            raise SystemExit(f"{path} is of {found}expected {made_from}name another --out")

    def _fill(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        view = View(VIEWS, SIZE)
        loader = make_loader(
            self.source, SIZE, BATCH, train=True, crops=random_crops(VIEWS, SIZE, 2)
        )
        total, count, files = self.epochs * self.steps * BATCH, 0, dict[str, Any]()
        for epoch in range(self.epochs):
            loader.set_position(epoch)
            for step, batch in enumerate(loader):
                torch.manual_seed(epoch * self.steps + step)
                first, second = (view(crops) for crops in batch.images.unbind(1))
                found = dict(zip(self.reader.names, *self.teach(first)[:1], strict=True))
                found |= {"embedding": self.teach(first)[1], "second": self.teach(second)[1]}
                found["views"] = (first * 255).round()
                for name, x in found.items():
                    kind = np.uint8 if name == "views" else np.float16
                    if name not in files:
                        shape = (total, *x.shape[1:])
                        files[name] = np.lib.format.open_memmap(
                            self.path / f"{name}.npy", "w+", kind, shape
                        )
                    files[name][count : count + BATCH] = x.numpy().astype(kind)
                count += BATCH
            print(f"cache: epoch {epoch + 1} of {self.epochs}", flush=True)

    @torch.no_grad()
    def teach(self, views: Tensor) -> tuple[list[Tensor], Tensor]:
        """(N,3,S,S) in [0,1] -> the teacher's maps and pooled features."""
        return self.reader(self.network, self.transform.normalize(views))

    def batches(self, epoch: int) -> Iterator[dict[str, Tensor]]:
        """What is kept of each step of an epoch; float32, views normalized."""
        names = [*self.reader.names, "embedding", "second", "views"]
        files = {n: np.load(self.path / f"{n}.npy", mmap_mode="r") for n in names}
        for step in range(epoch * self.steps, (epoch + 1) * self.steps):
            part = slice(step * BATCH, (step + 1) * BATCH)
            batch = {n: torch.from_numpy(np.array(f[part])).float() for n, f in files.items()}
            batch["views"] = self.transform.normalize(batch["views"] / 255)
            yield batch

    def still(self, epoch: int) -> Iterator[Tensor]:
        """(B,3,S,S) in [0,1]: images under the evaluation transform, others each epoch."""
        for batch in make_loader(subset(self.source, SOLVE_IMAGES, epoch), SIZE, 256, train=False):
            yield to_unit(batch.images)
