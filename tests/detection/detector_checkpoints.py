"""Thin detectors with random entries, and their files."""

import pickle

import torch

from mgd_ssl.detection.retinanet import DetectorSpec, create_detector


def filled(arch="resnet18", **options):
    """A thin detector with every entry random."""
    torch.manual_seed(0)
    options = {"category_ids": (3, 7), "fpn_channels": 32, "head_convs": 2} | options
    detector = create_detector(DetectorSpec(arch, 0.125, **options))
    detector.load_state_dict({k: random_like(v) for k, v in detector.state_dict().items()})
    return detector


def random_like(x):
    return torch.rand_like(x) + 0.5 if x.is_floating_point() else torch.randint_like(x, 1, 99)


def own(detector):
    return {
        "epoch": 3,
        "detector": detector.spec.to_dict(),
        "state_dict": detector.state_dict(),
        "optimizer": {"state": {}},
    }


def save(path, content):
    """A .pkl as Detectron2 writes it, of arrays; any other name by torch."""
    if path.suffix == ".pkl":
        state = {k: v.numpy() for k, v in content["model"].items()}
        path.write_bytes(pickle.dumps({**content, "model": state}))
    else:
        torch.save(content, path)
    return path


def same(detector, other):
    a, b = detector.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
