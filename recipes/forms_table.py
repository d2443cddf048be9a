"""The forms that recipes/forms.py compares, screen by screen."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Form:
    groups: str = "matched"
    reducer: str = "amp"
    target: str = "raw"
    loss: str = "partial"
    margins: str = "norm"
    stages: tuple[int, ...] = (0, 1, 2, 3)
    weight: float = 1.0
    embedding: str = "none"
    embedding_weight: float = 1.0
    embedding_target: str = "raw"
    embedding_loss: str = "cosine"
    temperature: float = 0.1
    fade: bool = False
    cross: bool = False
    every: bool = False
    optimizer: str = "sgd"
    lr: float = 0.06
    wd: float = 5e-4
    width: float = 0.125


B = Form()
R = Form(stages=(), embedding="regression")
L = Form(stages=(), embedding="linear", lr=1.0)
M = Form(embedding="linear", lr=1.0)
E = replace(M, weight=0.1, groups="expanded", reducer="sm", loss="l2")
SCREENS = {
    "rates": {
        **{f"regression lr {lr}": replace(R, lr=lr) for lr in (0.02, 0.2, 0.5)},
        "regression": R,
        **{f"matched w {w}": replace(B, weight=w) for w in (0.25, 1.0, 4.0)},
        "matched lr 0.2": replace(B, lr=0.2),
        "regression adamw 3e-3": replace(R, optimizer="adamw", lr=3e-3, wd=0.05),
        "matched adamw 3e-3": replace(B, optimizer="adamw", lr=3e-3, wd=0.05),
    },
    "rates 2": {
        **{f"regression lr {lr}": replace(R, lr=lr) for lr in (1.0, 2.0)},
        **{f"matched lr {lr}": replace(B, lr=lr) for lr in (0.5, 1.0)},
        **{
            f"matched + regression lr {lr}": replace(B, lr=lr, embedding="regression")
            for lr in (0.2, 0.5, 1.0)
        },
        "matched w 0.1 + regression lr 0.5": replace(B, lr=0.5, embedding="regression", weight=0.1),
        "matched w 0.02 + regression lr 0.5": replace(
            B, lr=0.5, embedding="regression", weight=0.02
        ),
    },
    "adamw": {
        **{
            f"regression adamw {lr}": replace(R, optimizer="adamw", lr=lr, wd=0.05)
            for lr in (1e-3, 3e-3, 1e-2)
        },
        **{
            f"matched adamw {lr}": replace(B, optimizer="adamw", lr=lr, wd=0.05)
            for lr in (3e-3, 1e-2)
        },
        "matched + regression adamw 3e-3": replace(
            B, optimizer="adamw", lr=3e-3, wd=0.05, embedding="regression"
        ),
    },
    "heads": {
        **{
            f"{e} alone": replace(R, embedding=e, lr=1.0)
            for e in ("two layers", "linear", "relation", "centred relation", "centred gram")
        },
        **{
            f"matched + {e}": replace(B, embedding=e, lr=1.0)
            for e in (
                "linear",
                "two layers",
                "relation",
                "centred relation",
                "centred gram",
                "grouped",
            )
        },
    },
    "beside linear": {
        **{f"linear lr {lr}": replace(L, lr=lr) for lr in (0.5, 2.0)},
        **{f"linear + matched w {w}": replace(M, weight=w) for w in (0.03, 0.1, 0.3)},
        "linear + matched w 1 fading": replace(M, weight=1.0, fade=True),
        "linear + last two w 0.3": replace(M, weight=0.3, stages=(2, 3)),
        "linear + expanded l2 w 0.1": replace(
            M, weight=0.1, groups="expanded", reducer="sm", loss="l2"
        ),
        "linear + pixel w 0.1": replace(
            M, weight=0.1, groups="expanded", reducer="sm", loss="pixel"
        ),
        "linear + identity w 0.1": replace(M, weight=0.1, groups="identity"),
        "linear + scaled w 0.1": replace(M, weight=0.1, target="scaled"),
        "linear + cosine w 0.1": replace(M, weight=0.1, loss="cosine"),
        "linear wd 1e-4": replace(L, wd=1e-4),
        "matched w 0.1 + relation": replace(M, weight=0.1, embedding="relation"),
    },
    "embeddings": {
        "linear centred": replace(L, embedding_target="centred"),
        "linear standard": replace(L, embedding_target="standard"),
        "linear standard mse": replace(L, embedding_target="standard", embedding_loss="mse"),
        "linear + relation": replace(L, embedding="linear + relation"),
        **{f"compress lr {lr}": replace(L, embedding="compress", lr=lr) for lr in (1.0, 0.2, 3.0)},
        **{f"seed lr {lr}": replace(L, embedding="seed", lr=lr) for lr in (1.0, 0.2, 3.0)},
    },
    "seeds": {
        "regression lr 1.0": replace(R, lr=1.0),
        "linear alone": L,
        "linear + matched w 0.3": replace(M, weight=0.3),
        "matched + two layers": replace(B, embedding="two layers", lr=1.0),
        "linear + expanded l2 w 0.1": E,
        "two layers + expanded l2 w 0.1": replace(E, embedding="two layers"),
        "linear + expanded matched w 0.1": replace(E, groups="expanded matched"),
    },
    "short": {
        "regression lr 1.0": replace(R, lr=1.0),
        "linear alone": L,
        "linear + matched w 0.3": replace(M, weight=0.3),
        "linear + matched w 1": M,
        "matched alone": replace(B, lr=1.0),
        "matched + two layers": replace(B, embedding="two layers", lr=1.0),
        "linear + expanded l2 w 0.1": E,
        "linear + expanded l2 w 1": replace(E, weight=1.0),
        "matched + regression": replace(B, lr=1.0, embedding="regression"),
    },
    "thin": {
        name: replace(form, width=0.0625)
        for name, form in {
            "thin regression": replace(R, lr=1.0),
            "thin linear": L,
            "thin linear + matched w 0.3": replace(M, weight=0.3),
            "thin linear + matched w 1": M,
            "thin linear + expanded l2 w 0.3": replace(E, weight=0.3),
            "thin matched + two layers": replace(B, embedding="two layers", lr=1.0),
            "thin linear + identity w 0.3": replace(M, weight=0.3, groups="identity"),
        }.items()
    },
    "decay": {
        "linear + matched w 0.3 wd 1e-3": replace(M, weight=0.3, wd=1e-3),
        "linear wd 1e-3": replace(L, wd=1e-3),
        "regression wd 1e-3": replace(R, lr=1.0, wd=1e-3),
        "linear + expanded l2 w 0.1 wd 1e-3": replace(E, wd=1e-3),
    },
    "groups": {
        "identity": replace(B, groups="identity"),
        "identity sm": replace(B, groups="identity", reducer="sm"),
        **{r: replace(B, reducer=r) for r in ("sp", "sp_avg", "rd", "sm", "attention")},
        "scaled": replace(B, target="scaled"),
        "l2": replace(B, loss="l2"),
        "measured": replace(B, margins="measured"),
        "cosine": replace(B, loss="cosine"),
        "pixel": replace(B, loss="pixel"),
        "expanded l2": replace(B, groups="expanded", reducer="sm", loss="l2"),
        "expanded partial": replace(B, groups="expanded", reducer="sm"),
        "expanded matched": replace(B, groups="expanded matched", reducer="sm"),
        "every epoch": replace(B, every=True),
        "last two": replace(B, stages=(2, 3)),
        "last": replace(B, stages=(3,)),
    },
}
SCREENS["short 2"] = {
    "linear + matched w 1 fading": replace(M, fade=True),
    "linear + matched w 3": replace(M, weight=3.0),
    "linear + matched w 3 fading": replace(M, weight=3.0, fade=True),
    "linear + identity w 1": replace(M, groups="identity"),
    "linear + matched sm w 1": replace(M, reducer="sm"),
    "linear + matched sp_avg w 1": replace(M, reducer="sp_avg"),
    "linear + matched every w 1": replace(M, every=True),
    "linear + matched measured w 1": replace(M, margins="measured"),
    "linear + matched scaled w 1": replace(M, target="scaled"),
    "linear + last w 1": replace(M, stages=(3,)),
    "linear + last two w 1": replace(M, stages=(2, 3)),
    "linear + expanded matched w 1": replace(E, weight=1.0, groups="expanded matched"),
}
