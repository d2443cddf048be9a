"""A student with its frozen teacher: what pretraining, classification and detection share."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mgd_ssl.distiller import FeatureDistiller, StageMatching
from mgd_ssl.models import FeatureReader, Taps, evaluating
from mgd_ssl.targets import Maps


class TaughtView(NamedTuple):
    """Images with the answers of a teacher that was asked before.

    Attributes:
        images: (N,3,H,W) in [0,1].
        maps: a (N,C_t,H_i,W_i) a map.
        output: (N,D_t).
    """

    images: Tensor
    maps: Maps
    output: Tensor


View = Tensor | TaughtView


def images_of(view: View) -> Tensor:
    """(N,3,H,W) in [0,1], with the answers or without them."""
    return view.images if isinstance(view, TaughtView) else view


class FrozenTeacher(nn.Module):
    """A network that is not trained, always in eval mode, and how its maps are read.

    Args:
        network: its weights loaded.
        reader: reads its maps.
    """

    def __init__(self, network: nn.Module, reader: Any) -> None:
        super().__init__()
        self.network, self.reader = network.requires_grad_(False), reader
        self.eval()

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """Stay in eval mode, whatever the mode of what the teacher is part of."""
        return super().train(False)


class Teacher(FrozenTeacher):
    """A frozen network of single images, that normalizes them its own way.

    Args:
        network: its weights loaded.
        reader: reads its maps.
        normalize: images in [0,1] -> what the network expects.
        size: side of the images that the network is given, in pixels; 0 for the student's.
    """

    def __init__(
        self, network: nn.Module, reader: FeatureReader, normalize: nn.Module, size: int = 0
    ) -> None:
        super().__init__(network, reader)
        self.normalize, self.size = normalize, size

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Maps, Tensor]:
        """(N,3,H,W) in [0,1] -> a (N,C_t,H_i,W_i) a map, and the network's output."""
        maps, output = self.reader(self.network, self.normalize(self.resize(images)))
        return maps, output

    def resize(self, images: Tensor) -> Tensor:
        """(N,3,H,W) -> (N,3,S,S) of the teacher's own size, bicubic with antialiasing."""
        if self.size in (0, images.shape[-1]):
            return images
        side = (self.size, self.size)
        resized = F.interpolate(images, side, mode="bicubic", antialias=True, align_corners=False)
        return resized.clamp_(0, 1)


class Task(nn.Module):
    """What a command trains: a student, what pulls it, and the matching to a teacher's maps.

    A subclass's ``forward`` takes a batch and returns named losses. The teacher is part of the
    task, so that it goes where the student goes; a checkpoint leaves it out.

    Args:
        student: the network to train.
        normalize: images in [0,1] -> what the student expects.
        reader: reads the student's maps; none unless given.
        teacher: None trains the student alone.
        distiller: matches the student's maps to the teacher's.
        cached: whether images come with the teacher's answers, so that it is never asked.
    """

    def __init__(
        self,
        student: nn.Module,
        normalize: nn.Module,
        reader: FeatureReader | None = None,
        teacher: FrozenTeacher | None = None,
        distiller: FeatureDistiller | None = None,
        *,
        cached: bool = False,
    ) -> None:
        super().__init__()
        self.student, self.normalize = student, normalize
        self.reader: FeatureReader = reader or Taps([])
        self.teacher, self.distiller, self.cached = teacher, distiller, cached

    encodings: int = 1  # times that the student sees an image in a step, with its gradient

    def frozen(self) -> list[tuple[nn.Module, Callable[[Tensor], Any]]]:
        """Networks that see the images without gradient, and how they are called."""
        teacher = self.teacher
        if teacher is None or self.cached:
            return []
        resize = getattr(teacher, "resize", lambda images: images)
        return [(teacher.network, lambda images: teacher.reader(teacher.network, resize(images)))]

    def free_teacher(self) -> None:
        """Free the memory of a teacher that is not asked again, as its answers are stored."""
        if self.teacher and self.cached:
            self.teacher.network.to("meta")

    def queues(self) -> list[Tensor]:
        """Queues (dim,K) that every image is contrasted with."""
        named = ((name.rpartition(".")[2], buffer) for name, buffer in self.named_buffers())
        return [queue for name, queue in named if name.startswith("queue") and queue.ndim == 2]

    def taught(self, view: Any) -> TaughtView:
        """A view (N,3,H,W) in [0,1] with the teacher's answers; it is asked where none are."""
        if isinstance(view, TaughtView):
            return view
        assert self.teacher
        return TaughtView(view, *self.teacher(view))

    def map_pairs(self, images: Any) -> Iterator[tuple[Maps, Maps]]:
        """(N,3,H,W) in [0,1] -> (raw student maps, teacher maps) that the cost is taken of."""
        view = self.taught(images)
        yield self.reader(self.student, self.normalize(view.images))[0], view.maps

    @torch.no_grad()
    def measure(self, batches: Iterable[Any]) -> None:
        """Measure statistics of the teacher's channels from batches of images in [0,1]."""
        assert self.distiller
        self.distiller.measure(self.taught(images).maps for images in batches)

    @torch.no_grad()
    def solve(self, batches: Iterable[Any]) -> list[StageMatching]:
        """Solve every stage's assignment from batches of images in [0,1], in eval mode.

        Several processes give a share of the images each; all get the same assignment.
        """
        assert self.distiller
        with evaluating(self.student):
            pairs = (pair for images in batches for pair in self.map_pairs(images))
            costs = self.distiller.costs(pairs)
        return self.distiller.solve(costs)
