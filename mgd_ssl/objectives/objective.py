"""What every objective has: options, what it needs, how its loss is built and called."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from mgd_ssl.ranges import require_above, require_least

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Step:
    """What an objective sees of one training step.

    Attributes:
        student: (N,D) the student's output for the query view.
        teacher: (N,D_t) the teacher's pooled features of the query view; None without a teacher.
        key: (N,3,H,W) the key view, normalized for the student; None where one view is drawn.
        encode: (N,3,H,W) normalized for the student -> (N,D).
        teach_key: computes the teacher's features (N,D_t) of the key view.
    """

    student: "Tensor"
    teacher: "Tensor | None"
    key: "Tensor | None"
    encode: "Callable[[Tensor], Tensor]"
    teach_key: "Callable[[], Tensor]"


@dataclass(frozen=True)
class Objective(ABC):
    """Drives the student from its output.

    Attributes:
        needs_teacher: whether it is of no use without a teacher.
        contrasts: whether it compares the images of a batch with each other.
        views: random views of each image in a step.
        encodings: times that the student encodes an image in a step, with its gradient.
        lr: learning rate of SGD.
    """

    needs_teacher: ClassVar[bool] = False
    contrasts: ClassVar[bool] = False
    views: ClassVar[int] = 1
    encodings: ClassVar[int] = 1
    lr: ClassVar[float] = 0.03

    objective_weight: float = 1.0
    """Factor on the objective's losses; 0 leaves the matching alone."""
    bn_splits: int = 0
    """Parts of a batch that batch norms normalize separately. 0: mgd, moco and disco on one process
    have 2 to 8 parts, of 16 images or more if the batch has as many; else 1."""

    @abstractmethod
    def build(self, student: "nn.Module", teacher_features: int) -> "nn.Module":
        """The loss, with the heads and queues that are trained beside the student.

        Args:
            student: from `create_backbone`; an objective may put a head in its classifier's place.
            teacher_features: D_t; 0 without a teacher.
        """

    @abstractmethod
    def losses(self, loss: Any, step: Step) -> "dict[str, Tensor]":
        """Named float32 scalars, each a mean over this process's images.

        Args:
            loss: from `build`.
            step: of the student and the teacher.
        """

    def check(self) -> None:
        """Refuse options out of range.

        Raises:
            ValueError: names the option.
        """
        require_least(self, objective_weight=0, bn_splits=0)


@dataclass(frozen=True)
class WithQueue(Objective):
    """An objective that keeps embeddings of earlier batches."""

    moco_k: int = 0
    """Embeddings in the queue, divisible by the batch. 0: 65,536, or as many as there are training
    images."""

    def check(self) -> None:
        """Refuse options out of range."""
        super().check()
        require_least(self, moco_k=0)


@dataclass(frozen=True)
class Contrastive(WithQueue):
    """An objective with a momentum encoder, which tells the images of a batch apart."""

    contrasts: ClassVar[bool] = True
    views: ClassVar[int] = 2

    moco_m: float = 0.999
    """Momentum of the key encoder."""
    moco_t: float = 0.2
    """Temperature; MoCo v1 0.07."""

    @property
    def momentum_options(self) -> dict[str, Any]:
        """The options of `mgd_ssl.losses.MoCo` that all of these objectives share."""
        return {
            "queue_size": self.moco_k,
            "momentum": self.moco_m,
            "temperature": self.moco_t,
        }

    def check(self) -> None:
        """Refuse options out of range."""
        super().check()
        require_least(self, moco_m=0)
        require_above(self, moco_t=0)


def all_options(objectives: "list[type[Objective]]") -> type[Objective]:
    """One class with the options of all objectives, to read a command line before the choice."""

    def build(*_: Any) -> Any:
        raise AssertionError("only a chosen objective is built")

    members = {"build": build, "losses": build, "__doc__": "Options of every objective."}
    return dataclass(frozen=True)(type("AnyObjective", tuple(objectives), members))


def names_of(objective: type[Objective]) -> set[str]:
    """The options that an objective has."""
    return {field.name for field in fields(objective)}
