"""Weights of the stages' losses in the three totals: Σ_i weight_i · ℓ_i.

A stage's index counts all stages, the ignored ones too: an ignored stage is one left out of the
sum, and the others' weights stay.
Source: Yue, Deng, Zhou, Matching Guided Distillation, ECCV 2020, arXiv 2008.09958.
"""

LOSS_FACTOR = 1e4
DETECTION_FACTOR = 5e7


def stage_weights(stages: int, images: int, factor: float = LOSS_FACTOR) -> list[float]:
    """Unsupervised and classification: 1 / 2^(n−1−i) / B / factor.

    Args:
        stages: n, ignored stages included.
        images: B, the number of images that the losses were summed over.
        factor: tuned for inputs of 224×224; other resolutions need another one.
    """
    return [1 / 2 ** (stages - 1 - i) / images / factor for i in range(stages)]


def detection_weights(stages: int, images: int, factor: float = DETECTION_FACTOR) -> list[float]:
    """Detection: 1 / f_i / images, f = factor·[1, 1, 0.1, 0.1, …] for C2, C3, C4, C5 and deeper."""
    return [1 / (factor * (1.0 if i < 2 else 0.1)) / images for i in range(stages)]
