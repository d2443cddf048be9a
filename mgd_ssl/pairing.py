"""Two networks paired for distillation in a loop of one's own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mgd_ssl.choices import Adapter
from mgd_ssl.distiller import FeatureDistiller, StageMatching
from mgd_ssl.models import FeatureReader, evaluating, find_reader, keeping_buffers, probe
from mgd_ssl.stages import Form, plan_stages, read_margins
from mgd_ssl.targets import Maps


@dataclass
class Pair:
    """A frozen teacher, a student, and the distiller between their maps.

    Attributes:
        teacher: the frozen network, in eval mode.
        student: the network to train.
        distiller: its adapters are trained beside the student, and thrown away after.
        teacher_reader: reads the teacher's maps.
        student_reader: reads the student's maps.
    """

    teacher: nn.Module
    student: nn.Module
    distiller: FeatureDistiller
    teacher_reader: FeatureReader
    student_reader: FeatureReader

    def parameters(self) -> list[nn.Parameter]:
        """What an optimizer trains: the student's parameters and the adapters'."""
        return [*self.student.parameters(), *self.distiller.parameters()]

    def __call__(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """A step's losses.

        Args:
            images: (N,3,H,W), normalized for both networks.

        Returns:
            ``matching/NAME`` -> float32 scalar; the student's output (N,D); the teacher's (N,D_t).

        Raises:
            RuntimeError: the matching was never solved.
        """
        with torch.no_grad():
            teacher_maps, teacher_output = self.teacher_reader(self.teacher, images)
        student_maps, output = self.student_reader(self.student, images)
        return self.distiller(student_maps, teacher_maps), output, teacher_output

    @torch.no_grad()
    def solve(self, batches: Iterable[Tensor]) -> list[StageMatching]:
        """Measure the teacher's channels where needed, and solve the matching.

        Args:
            batches: (N,3,H,W) images each, normalized; a few thousand images in all.
        """
        batches = list(batches)  # it is read twice
        if self.distiller.needs_measuring:
            self.distiller.measure(self.teacher_reader(self.teacher, x)[0] for x in batches)
        with evaluating(self.student):
            return self.distiller.solve(self.distiller.costs(self._maps(batches)))

    @torch.no_grad()
    def weigh(self, batches: Iterable[Tensor], start: float = 30.0) -> list[float]:
        """Choose each stage's weight so that its loss begins at ``start``; after `solve`.

        A stage with a borrowed map of the teacher begins at its `Stage.share` of that.
        """
        with keeping_buffers(self.student, self.distiller):
            return self.distiller.calibrate(self._maps(batches), start)

    def _maps(self, batches: Iterable[Tensor]) -> Iterable[tuple[Maps, Maps]]:
        for images in batches:
            student = self.student_reader(self.student, images)[0]
            yield student, self.teacher_reader(self.teacher, images)[0]


def pair_networks(
    teacher: nn.Module,
    student: nn.Module,
    size: int = 224,
    *,
    taps: Sequence[str] = (),
    teacher_taps: Sequence[str] = (),
    ignore: Sequence[int] = (),
    adapter: Adapter = "expand",
    **options: Any,
) -> Pair:
    """Find the maps of two networks, pair them, and build the distiller between them.

    Args:
        teacher: any network of images; it is frozen and put in eval mode.
        student: any network of images.
        size: side of the images, in pixels.
        taps: ``NAME=module.path`` of the student's maps; found automatically unless given.
        teacher_taps: the same of the teacher's.
        ignore: indices of the student's stages that take no part.
        adapter: see `FeatureDistiller`.
        options: of `FeatureDistiller`; ``reduction`` is ``element`` unless given.

    Example:
        >>> teacher, _ = load_backbone("dinov2_vits14_pretrain.pth")
        >>> pair = pair_networks(teacher, create_backbone("resnet18"))
        >>> pair.solve(batches)
        >>> losses, output, teacher_output = pair(images)

    Raises:
        ValueError: no rule finds the maps of a network, or no stage is left to match.
    """
    teacher.eval().requires_grad_(False)
    readers = (
        find_reader(teacher, teacher_taps, size, "the argument teacher_taps:"),
        find_reader(student, taps, size, "the argument taps:"),
    )
    maps = probe(teacher, readers[0], size), probe(student, readers[1], size)
    norms = readers[0].norms(teacher)
    stages = plan_stages(*maps, readers[1].names, ignore, forms_of(readers[0], teacher))
    given: dict[str, Any] = {"reduction": "element", "scale": 1.0} | options
    distiller = FeatureDistiller(
        stages,
        read_margins(norms, stages),
        adapter=adapter,
        **given,
    )
    return Pair(teacher, student, distiller, *readers)


def forms_of(reader: FeatureReader, network: nn.Module) -> list[Form]:
    """What each of a teacher's maps is.

    A batch norm's margins serve a linear map too: on photographs they measured better than
    standardized channels (docs/results_earlier.md).
    """
    known = zip(reader.rectified(network), reader.norms(network), strict=True)
    return ["rectified" if cut or norm is not None else "standard" for cut, norm in known]
