"""Options of the evaluators: ``knn_eval.py`` and ``linear_eval.py``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import tyro
from tyro.conf import Positional, arg

from mgd_ssl.ranges import require_above, require_least
from mgd_ssl.settings.effects import Needs
from mgd_ssl.settings.options import BackboneOptions, ComputeOptions, Data, FolderOptions
from mgd_ssl.settings.rules import STEM_STRIDE
from mgd_ssl.settings.settings import Settings

Features = Literal["pooled", "cls", "cls+patches"]


@dataclass(frozen=True)
class EvaluationConfig(Settings):
    """A checkpoint, and labeled images."""

    checkpoint: Positional[Path] = tyro.MISSING
    """Any checkpoint that --teacher of pretrain.py accepts, such as a run's last.pt."""
    data: Data = ()
    """Images, in one place or several; see docs/data.md. Without a val part a fifth of them serves
    as val. None: the embedded images."""
    features: Features = "pooled"
    """pooled: what the network pools; cls: the class token; cls+patches: the class token and the
    mean of the patch tokens. The last two need a network with a class token, such as DINOv2."""
    out: Path | None = None
    """JSON file for the results. None: beside the checkpoint."""
    size: int = 0
    """Side of the network's input images, in pixels. 0: as recorded in the checkpoint, else 224 (32
    on embedded images)."""
    batch_size: Annotated[int, arg(aliases=["-b"])] = 256
    """Images that the network sees at once."""
    workers: Annotated[int, arg(aliases=["-j"])] = 8
    """Decoding processes, at most the number of cores; none for data in memory."""
    exif: bool = True
    """Apply the EXIF orientation; --no-exif uses images as stored, as torchvision does."""
    limit: int | None = None
    """Use a fixed random subset of this many train images. None: all."""
    limit_val: int | None = None
    """Use a fixed random subset of this many val images. None: all."""
    seed: int = 0
    """Seed of everything random, such as the choice of val where there is none."""
    folders: FolderOptions = field(default_factory=FolderOptions)
    network: BackboneOptions = field(default_factory=BackboneOptions)
    device: ComputeOptions = field(default_factory=ComputeOptions)

    def check(self) -> None:
        """Refuse values out of range."""
        require_least(self, batch_size=1, workers=0, size=0, limit=1, limit_val=1)

    def rules(self) -> list[Needs]:
        """What options need to have an effect."""
        return [STEM_STRIDE]


LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # tried by the cached probe


# dinov2/eval/knn.py of facebookresearch/dinov2
DINOV2: dict[str, Any] = {"features": "cls", "knn_k": (10, 20, 100, 200), "knn_t": (0.07,)}
KNN_PROTOCOLS = {"moco": {}, "dinov2": {"protocol": "dinov2", **DINOV2}}


@dataclass(frozen=True)
class KnnConfig(EvaluationConfig):
    """kNN accuracy of a checkpoint: exact cosine neighbors, votes weighted by exp(cosine/T).

    Protocol moco: the features that the network pools, at each k of --knn-k and T of --knn-t.
    Protocol dinov2: the class token, at k 10, 20, 100 and 200 and T 0.07; DINOv2's headline figure
    is that of k 20. Networks without a class token need --features pooled. For images without
    labels it measures how the features spread, and --retrieve draws neighbors.
    """

    MAIN: ClassVar = (
        *("checkpoint", "data", "protocol", "features", "knn_k", "retrieve", "size", "arch"),
        *("out", "batch_size", "workers", "precision"),
    )
    EXAMPLE: ClassVar = "python knn_eval.py runs/resnet18/checkpoints/last.pt photos"

    protocol: Literal["moco", "dinov2"] = "moco"
    """Features, k and T; see above."""
    knn_k: tuple[int, ...] = (1, 10, 20, 100, 200)
    """Numbers of neighbors that vote; default numbers larger than the bank are left out."""
    knn_t: tuple[float, ...] = (0.1, 0.07)
    """Temperatures of the vote."""
    retrieve: int = 0
    """Draw this many queries with their nearest neighbors and, with labels, measure precision@k and
    mAP."""
    neighbors: int = 10
    """Neighbors drawn for each query."""

    @classmethod
    def recipe(cls, said: Mapping[str, Any]) -> Self:
        """The defaults of a protocol."""
        return cls(**KNN_PROTOCOLS[said.get("protocol", "moco")])

    def check(self) -> None:
        """Refuse what is out of range."""
        super().check()
        if not self.knn_k or not self.knn_t or self.retrieve < 0 or self.neighbors < 1:
            raise ValueError(
                "expected one or more of --knn-k and --knn-t, --retrieve 0 or more, --neighbors "
                "1 or more"
            )
        if min(self.knn_k) < 1:
            raise ValueError(f"knn_k: got {min(self.knn_k)} neighbors, expected 1 or more")
        if min(self.knn_t) <= 0:
            raise ValueError(f"knn_t: got {min(self.knn_t)}, expected above 0")

    def rules(self) -> list[Needs]:
        """What options need to have an effect."""
        retrieve = Needs(["neighbors"], lambda c: c.retrieve > 0, "without --retrieve", "add it")
        return [*super().rules(), retrieve]


@dataclass(frozen=True)
class LinearEvalConfig(EvaluationConfig):
    """Linear probe of a checkpoint.

    Protocol cached: computes the features once and trains at many learning rates at once; a
    held-out part of train chooses the rate. Protocol moco: trains one layer on random crops, with
    the backbone frozen in eval mode, and then checks that nothing else has changed.
    """

    MAIN: ClassVar = (
        *("checkpoint", "data", "protocol", "features", "epochs", "learning_rates", "lr"),
        *("size", "arch", "out", "batch_size", "workers", "precision"),
    )
    EXAMPLE: ClassVar = "python linear_eval.py runs/resnet18/checkpoints/last.pt photos"

    protocol: Literal["cached", "moco"] = "cached"
    """See above."""
    epochs: int = 100
    """Passes over the training images, or their features."""
    batch_size: Annotated[int, arg(aliases=["-b"])] = 256
    """Images that the network sees at once, and images or features in a step of the probe. moco:
    by default no more than the training images."""
    lr: float = 30.0
    """moco: learning rate, which suits batches of 256; it is not scaled with the batch size."""
    schedule: tuple[int, ...] = (60, 80)
    """moco: epochs at which the rate drops to a tenth."""
    learning_rates: tuple[float, ...] = LEARNING_RATES
    """cached: learning rates to try."""
    holdout: float = 0.1
    """cached: share of each class of train that is held out to choose the rate."""
    weight_decay: float = 0.0
    """Weight decay of the layer."""
    save_head: Path | None = None
    """moco: file for the trained layer."""

    def check(self) -> None:
        """Refuse values out of range, before any feature is computed."""
        super().check()
        require_least(self, epochs=1, weight_decay=0)
        require_above(self, lr=0, holdout=0)
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise ValueError(
                f"learning_rates: got {' '.join(map(str, self.learning_rates)) or 'none'}, "
                "expected one or more, each above 0"
            )
        if self.holdout >= 1:
            raise ValueError(f"holdout: got {self.holdout}, expected a share below 1")

    def rules(self) -> list[Needs]:
        """What options need to have an effect."""
        return [*super().rules(), *RULES]


RULES = [
    Needs(
        ["lr", "schedule", "save_head"],
        lambda c: c.protocol == "moco",
        "on the protocol cached",
        "say --protocol moco",
    ),
    Needs(
        ["learning_rates", "holdout"],
        lambda c: c.protocol == "cached",
        "on the protocol moco",
        "say --protocol cached",
    ),
    Needs(
        ["schedule"],
        lambda c: min(c.schedule, default=0) < c.epochs,
        "where the rate would drop after the last epoch",
        "give earlier epochs",
    ),
]
