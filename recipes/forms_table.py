"""The forms that recipes/forms.py compares, screen by screen."""

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Form:
    """A loss on the maps, a loss on the embedding, and how the student is trained.

    Attributes:
        stages: that the maps' loss has; none leaves it out.
        groups: ``matched``, ``identity`` (channels in their order), ``expanded`` (1×1 convolutions
            to the teacher's channels, in their order) or ``expanded matched``.
        reducer: of a group.
        target: ``raw``, or ``scaled`` by each teacher channel's root mean square.
        loss: ``partial`` (with margins), ``l2``, ``cosine`` (of a channel's map) or ``pixel``
            (cosine over channels).
        margins: of the ``norm``, or ``measured``: the mean of a channel's negative responses.
        weight: what each stage's loss begins at.
        fade: whether the maps' loss falls to nothing over the run.
        every: whether the matching is solved before every epoch.
        embedding: ``none``; ``regression`` (four layers), ``two layers`` or ``linear``; in-batch
            ``relation`` and ``gram`` of similarities; ``seed``, ``compress``.
        embedding_target: ``raw``, ``centred`` or ``standard``.
        embedding_loss: ``cosine`` or ``mse``.
        cross: whether the teacher's embedding is that of a second view.
        width: of the student.
    """

    stages: tuple[int, ...] = (0, 1, 2, 3)
    groups: str = "matched"
    reducer: str = "amp"
    target: str = "raw"
    loss: str = "partial"
    margins: str = "norm"
    weight: float = 1.0
    fade: bool = False
    every: bool = False
    embedding: str = "none"
    embedding_target: str = "raw"
    embedding_loss: str = "cosine"
    temperature: float = 0.1
    cross: bool = False
    optimizer: str = "sgd"
    lr: float = 1.0
    wd: float = 5e-4
    width: float = 0.125


B = Form()  # the matching alone
R = Form(stages=(), embedding="regression")
L = Form(stages=(), embedding="linear")
M = Form(embedding="linear")
E = replace(M, weight=0.1, groups="expanded", reducer="sm", loss="l2")
P = replace(E, groups="expanded matched")
ADAMW: dict[str, Any] = {"optimizer": "adamw", "wd": 0.05}
THIN: dict[str, Any] = {"width": 0.0625}
SCREENS = {
    "rates": {
        **{f"regression lr {lr}": replace(R, lr=lr) for lr in (0.02, 0.06, 0.2, 0.5, 1.0, 2.0)},
        **{f"matched lr {lr}": replace(B, lr=lr) for lr in (0.06, 0.5, 1.0)},
        **{f"regression adamw {lr}": replace(R, **ADAMW, lr=lr) for lr in (1e-3, 3e-3, 1e-2)},
        "matched adamw 0.003": replace(B, **ADAMW, lr=3e-3),
        "matched + regression lr 0.2": replace(B, embedding="regression", lr=0.2),
        "matched + regression lr 0.5": replace(B, embedding="regression", lr=0.5),
        "matched + regression lr 1.0": replace(B, embedding="regression"),
        "matched w 0.25 lr 0.06": replace(B, weight=0.25, lr=0.06),
        "matched w 0.1 + regression lr 0.5": replace(B, embedding="regression", weight=0.1, lr=0.5),
        "linear lr 0.5": replace(L, lr=0.5),
        "linear lr 2.0": replace(L, lr=2.0),
        "linear wd 1e-4": replace(L, wd=1e-4),
        "linear wd 1e-3": replace(L, wd=1e-3),
        "regression wd 1e-3": replace(R, wd=1e-3),
        "linear + matched w 0.3 wd 1e-3": replace(M, weight=0.3, wd=1e-3),
        "linear + expanded l2 w 0.1 wd 1e-3": replace(E, wd=1e-3),
    },
    "embeddings": {
        "two layers alone": replace(R, embedding="two layers"),
        "linear alone": L,
        "relation alone": replace(R, embedding="relation"),
        "centred relation alone": replace(R, embedding="centred relation"),
        "centred gram alone": replace(R, embedding="centred gram"),
        "linear centred": replace(L, embedding_target="centred"),
        "linear standard": replace(L, embedding_target="standard"),
        "linear standard mse": replace(L, embedding_target="standard", embedding_loss="mse"),
        "linear + relation": replace(L, embedding="linear + relation"),
        **{f"compress lr {lr}": replace(L, embedding="compress", lr=lr) for lr in (0.2, 1.0, 3.0)},
    },
    "beside the embedding": {
        **{f"linear + matched w {w}": replace(M, weight=w) for w in (0.03, 0.1, 0.3)},
        "matched + linear": M,
        "matched + two layers": replace(B, embedding="two layers"),
        "linear + matched w 1 fading": replace(M, fade=True),
        "linear + last two w 0.3": replace(M, weight=0.3, stages=(2, 3)),
        "linear + expanded l2 w 0.1": E,
        "linear + pixel w 0.1": replace(E, loss="pixel"),
        "linear + identity w 0.1": replace(M, weight=0.1, groups="identity"),
        "linear + scaled w 0.1": replace(M, weight=0.1, target="scaled"),
        "linear + cosine w 0.1": replace(M, weight=0.1, loss="cosine"),
    },
    "seeds": {
        "regression lr 1.0": R,
        "linear alone": L,
        "linear + matched w 0.3": replace(M, weight=0.3),
        "matched + two layers": replace(B, embedding="two layers"),
        "linear + expanded l2 w 0.1": E,
        "two layers + expanded l2 w 0.1": replace(E, embedding="two layers"),
        "linear + expanded matched w 0.1": P,
    },
    "short": {
        "regression lr 1.0": R,
        "linear alone": L,
        "matched alone": B,
        "matched + regression": replace(B, embedding="regression"),
        "matched + two layers": replace(B, embedding="two layers"),
        "linear + matched w 0.3": replace(M, weight=0.3),
        "linear + matched w 1": M,
        "linear + matched w 3": replace(M, weight=3.0),
        "linear + matched w 1 fading": replace(M, fade=True),
        "linear + matched w 3 fading": replace(M, weight=3.0, fade=True),
        "linear + identity w 1": replace(M, groups="identity"),
        "linear + matched sm w 1": replace(M, reducer="sm"),
        "linear + matched sp_avg w 1": replace(M, reducer="sp_avg"),
        "linear + matched every w 1": replace(M, every=True),
        "linear + matched measured w 1": replace(M, margins="measured"),
        "linear + matched scaled w 1": replace(M, target="scaled"),
        "linear + last w 1": replace(M, stages=(3,)),
        "linear + last two w 1": replace(M, stages=(2, 3)),
        "linear + expanded l2 w 0.1": E,
        "linear + expanded l2 w 1": replace(E, weight=1.0),
        "linear + expanded matched w 1": replace(P, weight=1.0),
        "linear + expanded matched partial w 1": replace(P, weight=1.0, loss="partial"),
        "linear cross": replace(L, cross=True),
        "linear + matched w 1 cross": replace(M, cross=True),
    },
    "thin": {
        "thin regression": replace(R, **THIN),
        "thin linear": replace(L, **THIN),
        "thin linear + matched w 0.3": replace(M, **THIN, weight=0.3),
        "thin linear + matched w 1": replace(M, **THIN),
        "thin linear + identity w 0.3": replace(M, **THIN, weight=0.3, groups="identity"),
        "thin matched + two layers": replace(B, **THIN, embedding="two layers"),
        "thin linear + expanded l2 w 0.3": replace(E, **THIN, weight=0.3),
        "thin linear + expanded matched w 0.3": replace(P, **THIN, weight=0.3),
        "thin linear + expanded matched w 1": replace(P, **THIN, weight=1.0),
    },
}
