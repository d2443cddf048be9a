"""Distil any teacher into any student in a loop of one's own.

    python examples/compose.py [TEACHER] [--arch resnet18] [--steps 60]

TEACHER is a checkpoint or the name of published weights; without one the embedded teacher serves.
The loss is the matching of the maps beside a regression of the teacher's pooled features.
"""

import argparse

import torch
from torch import nn

from mgd_ssl import create_backbone, knn_accuracy, load_backbone, pair_networks
from mgd_ssl.data import eval_transform, make_loader, open_source, subset
from mgd_ssl.losses import SimReg
from mgd_ssl.settings.pretrain import EMBEDDED_TEACHER

SIZE, BATCH = 32, 64


def main() -> None:
    """Train, and print the kNN accuracy before and after."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("teacher", nargs="?", default=EMBEDDED_TEACHER)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    torch.manual_seed(0)

    teacher, report = load_backbone(options.teacher)
    student = create_backbone(options.arch, width=0.125, stem="small", stem_stride=2)
    pair = pair_networks(teacher, student, SIZE)
    regression = SimReg(student.num_features, teacher.num_features, "linear")

    normalize = eval_transform(report.mean, report.std)
    images = subset(open_source(None, "train"), 2048)
    loader = make_loader(images, SIZE, BATCH, train=True, seed=0)
    batches = [normalize(batch.images) for batch in loader]
    pair.solve(batches[:8])
    pair.weigh(batches[:4], start=30)

    parameters = [*pair.parameters(), *regression.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.05)
    print(f"kNN before: {accuracy(student, normalize):.1f} %")
    for step in range(options.steps):
        matching, output, target = pair(batches[step % len(batches)])
        losses = matching | {"regression": regression(output, target)}
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        if step % 20 == 0:
            print(f"step {step}: " + ", ".join(f"{k} {v.item():.2f}" for k, v in losses.items()))
    print(f"kNN after: {accuracy(student, normalize):.1f} %")


@torch.no_grad()
def accuracy(student: nn.Module, normalize: nn.Module) -> float:
    """kNN top-1 in percent: 1,000 labeled test images against 2,000 training images."""
    student.eval()
    features, labels = [], []
    for split, count in (("train", 2000), ("val", 1000)):
        source = subset(open_source(None, split, labeled=True), count)
        loader = make_loader(source, SIZE, 250, train=False)
        features.append(torch.cat([student(normalize(batch.images)) for batch in loader]))
        labels.append(torch.from_numpy(source.labels))
    student.train()
    return knn_accuracy(features[0], labels[0], features[1], labels[1], k=20)["top1"]


if __name__ == "__main__":
    main()
