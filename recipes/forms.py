"""Screens of docs/log.md: forms of the matching and of the embedding objective, side by side.

    python recipes/forms.py FOLDER_OF_IDX_FILES TEACHER --screen NAME

The teacher's answers to the views of every epoch are taken once and kept under --out, so that a
form costs the student's steps alone, and all forms of a seed see the same views in the same order.
A form whose results exist is not repeated. What is found here is built into the package, and
measured again there.
"""

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from forms_cache import SIZE, Cache
from forms_parts import Dense, Embedding
from forms_table import SCREENS, Form
from tables import ACCURACIES, Row, markdown, run_rows
from torch import Tensor, nn

from mgd_ssl.data import make_loader
from mgd_ssl.evaluation import knn_accuracy, linear_probe
from mgd_ssl.evaluation.features import collect_features
from mgd_ssl.matching import unsupervised_epochs
from mgd_ssl.models import create_backbone, evaluating, find_reader
from mgd_ssl.stages import plan_stages, read_margins


def train(form: Form, seed: int, cache: Cache) -> nn.Module:
    """A student of the form."""
    torch.manual_seed(seed)
    student = create_backbone("resnet18", width=form.width, stem="small", stem_stride=2)
    reader = find_reader(student, [], SIZE)
    blank = torch.zeros(2, 3, SIZE, SIZE)
    with evaluating(student), torch.no_grad():
        own, taught = reader(student, blank)[0], reader(cache.network, blank)[0]
    stages = plan_stages(taught, own, reader.names)
    margins = read_margins(cache.reader.norms(cache.network), stages)
    dense = Dense(form, stages, margins)
    features = student.num_features, cache.network.num_features
    embedding = Embedding(form, *features)  # type: ignore[arg-type]
    parts = nn.ModuleList([student, dense, embedding]).train()
    with torch.no_grad():
        embedding.measure(torch.cat([cache.teach(x)[1] for x in cache.still(0)]))
    dense.measure([cache.teach(x)[0] for x in cache.still(0)])
    parameters = list(parts.parameters())
    if form.optimizer == "sgd":
        optimizer: Any = torch.optim.SGD(parameters, form.lr, 0.9, weight_decay=form.wd)
    else:
        optimizer = torch.optim.AdamW(parameters, form.lr, weight_decay=form.wd)
    total = cache.epochs * cache.steps
    for epoch in range(cache.epochs):
        if epoch + 1 in unsupervised_epochs(cache.epochs) or form.every:
            solve(form, dense, student, reader, cache, epoch)
        for step, batch in enumerate(cache.batches(epoch), epoch * cache.steps):
            done = step / total
            for group in optimizer.param_groups:
                group["lr"] = form.lr * (1 + math.cos(math.pi * done)) / 2
            teacher = [batch[name] for name in cache.reader.names]
            maps, output = reader(student, batch["views"])
            target = batch["second" if form.cross else "embedding"]
            loss = embedding(output, target)
            if form.stages:
                loss = loss + (1 - done if form.fade else 1) * dense(maps, teacher)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return student


def solve(
    form: Form, dense: Dense, student: nn.Module, reader: Any, cache: Cache, epoch: int
) -> None:
    """Assign the channels before an epoch."""

    @torch.no_grad()
    def pairs() -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        for images in cache.still(epoch):
            s = reader(student, cache.transform.normalize(images))[0]
            t = cache.teach(images)[0]
            yield [s[i] for i in form.stages], [t[i] for i in form.stages]

    if form.stages:
        with evaluating(student):
            dense.solve(pairs())


def measure(network: nn.Module, cache: Cache) -> dict[str, float]:
    """kNN and linear accuracy over all test images."""
    loaders = (make_loader(x, SIZE, 256, train=False) for x in (cache.source, cache.test))
    bank, queries = (
        collect_features(network, loader, transform=cache.transform, device="cpu")
        for loader in loaders
    )
    found = bank.features, bank.labels, queries.features, queries.labels
    near = knn_accuracy(*found, k=20, temperature=0.1)["top1"]
    return {"knn20": near, "linear": linear_probe(*found)["top1"]}


def main() -> None:
    """Run what is missing of a screen, then write its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--screen", choices=SCREENS, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/forms"))
    parser.add_argument("--images", type=int, default=12000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    cache = Cache(
        options.out / "cache", options.data, options.teacher, options.images, options.epochs
    )
    forms = SCREENS[options.screen]

    def run(row: Row, seed: int) -> dict[str, Any]:
        started = time.monotonic()
        if row.name == "teacher":
            return measure(cache.network, cache)
        student = train(forms[row.name], seed, cache)
        spent = time.monotonic() - started
        found = measure(student, cache) | {"train": spent} | {"form": asdict(forms[row.name])}
        print(
            row.name, seed, f"{found['knn20']:.2f} {found['linear']:.2f} {spent:.0f}s", flush=True
        )
        return found

    seeds = tuple(range(options.seeds))
    rows = [Row("teacher", ()), *(Row(name, (), seeds) for name in forms)]
    done = run_rows(rows, run, options.out)
    print(markdown(done, ACCURACIES))


if __name__ == "__main__":
    main()
