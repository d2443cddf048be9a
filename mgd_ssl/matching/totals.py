"""Weights of the stages' losses, summed over images, in the totals: Σ_i weight_i · ℓ_i.

A stage's index counts all stages, the ignored ones too: an ignored stage is one left out of the
sum, and the others' weights stay.
Source: Yue, Deng, Zhou, Matching Guided Distillation, ECCV 2020, arXiv 2008.09958.
"""

DETECTION_FACTOR = 5e7


def stage_weights(stages: int) -> list[float]:
    """Unsupervised and classification: 1 / 2^(n−1−i) for n stages, ignored ones included.

    The method's total is this over the images and over 1e4, a factor for inputs of 224×224.
    """
    return [1 / 2 ** (stages - 1 - i) for i in range(stages)]


def detection_weights(stages: int, factor: float = DETECTION_FACTOR) -> list[float]:
    """Detection: 1 / f_i, f = factor·[1, 1, 0.1, 0.1, …] for C2, C3, C4, C5 and deeper.

    The method's total is this over the images.
    """
    return [1 / (factor * (1.0 if i < 2 else 0.1)) for i in range(stages)]
