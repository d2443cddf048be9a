"""The parts of a pretraining run: teacher, student, objective, distiller; each checked."""

from dataclasses import dataclass
from typing import cast

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.commands.pretrain_config import PretrainConfig
from mgd_ssl.commands.report import print_plan
from mgd_ssl.data import Normalize
from mgd_ssl.distiller import FeatureDistiller
from mgd_ssl.models import (
    FeatureReader,
    KeyReport,
    create_backbone,
    find_reader,
    load_backbone,
    probe,
    split_batch_norms,
)
from mgd_ssl.objectives import MoCo, Pretraining
from mgd_ssl.stages import plan_stages, read_margins
from mgd_ssl.training.logging import logger

IGNORED_BY_DEFAULT = {"mobilenet_v2": (0,), "shufflenet_v2_x1_0": (0,)}


@dataclass(frozen=True)
class Teacher:
    """A frozen network, how its maps are read, and what its images look like."""

    network: nn.Module
    reader: FeatureReader
    normalize: Normalize
    report: KeyReport

    @torch.no_grad()
    def read(self, images: Tensor) -> list[Tensor]:
        """(N,3,H,W) in [0,1] -> a (N,C_t,H_i,W_i) a stage."""
        return self.reader(self.network, self.normalize(images))[0]


def load_teacher(config: PretrainConfig, fabric: Fabric) -> Teacher:
    """Load and freeze the teacher; says which keys were matched."""
    options = config.teacher
    assert options.teacher is not None and config.loader.size is not None
    network, report = load_backbone(
        options.teacher,
        arch=options.teacher_arch,
        width=options.teacher_width,
        stem=options.teacher_stem,
        stem_stride=options.teacher_stem_stride,
    )
    logger.info("teacher %s", report)
    network.requires_grad_(False)
    reader = find_reader(network, options.teacher_taps, config.loader.size)
    normalize = Normalize(report.mean, report.std).to(fabric.device)
    return Teacher(network.to(fabric.device), reader, normalize, report)


def build_task(config: PretrainConfig, teacher: Teacher | None, fabric: Fabric) -> Pretraining:
    """The student with its objective and, where there is a teacher, its distiller."""
    options, size = config.network, config.loader.size
    assert size is not None
    spec = {k: getattr(options, k) for k in ("arch", "width", "stem", "stem_stride")}
    student = create_backbone(**spec)
    reader = find_reader(student, options.taps, size) if teacher or options.taps else None
    distiller = None
    if teacher and reader:
        distiller = build_distiller(config, teacher, student, reader)
    splits = config.moco.bn_splits or (8 if fabric.world_size == 1 else 1)
    others = split_batch_norms(student, splits)
    if others and splits > 1:
        logger.warning("%d batch norms cannot be split; keys may leak through them", others)
    _check_batch(config, fabric.world_size, splits)
    moco = MoCo(
        student,
        dim=config.moco.moco_dim,
        queue_size=cast(int, config.moco.moco_k),
        momentum=cast(float, config.moco.moco_m),
        temperature=cast(float, config.moco.moco_t),
        mlp=config.moco.mlp,
    )
    return Pretraining(moco, distiller, reader, config.moco.contrastive_weight)


def build_distiller(
    config: PretrainConfig, teacher: Teacher, student: nn.Module, reader: FeatureReader
) -> FeatureDistiller:
    """Pair the stages, print the plan, and build the distiller."""
    mgd, size = config.mgd, cast(int, config.loader.size)
    ignore = mgd.ignore
    if ignore is None:
        ignore = IGNORED_BY_DEFAULT.get(str(config.network.arch), ())
    teacher_maps = probe(teacher.network, teacher.reader, size)
    stages = plan_stages(teacher_maps, probe(student, reader, size), reader.names, ignore)
    margins = read_margins(teacher.reader.norms(teacher.network), stages)
    if distributed.rank() == 0:
        print_plan(stages, teacher.network, teacher.reader, student, reader)
    by_element = mgd.mgd_element_weight is not None
    scale = mgd.mgd_element_weight if by_element else 1 / cast(float, mgd.mgd_loss_factor)
    return FeatureDistiller(
        stages,
        margins,
        reducer=mgd.mgd_reducer,
        mode=mgd.mgd_mode,
        reduction="element" if by_element else "image",
        scale=cast(float, scale),
    )


def build_optimizer(config: PretrainConfig, task: Pretraining) -> torch.optim.Optimizer:
    """SGD or AdamW over all that is trained: the student, its head and the adapters."""
    optim = config.optim
    rate, decay = cast(float, optim.lr), cast(float, optim.weight_decay)
    parameters = [p for p in task.parameters() if p.requires_grad]
    if optim.optimizer == "adamw":
        return torch.optim.AdamW(parameters, rate, weight_decay=decay)
    return torch.optim.SGD(parameters, rate, momentum=optim.momentum, weight_decay=decay)


def _check_batch(config: PretrainConfig, world_size: int, splits: int) -> None:
    batch, queue = cast(int, config.optim.batch_size), cast(int, config.moco.moco_k)
    if batch < 1 or batch % (world_size * splits):
        raise ValueError(
            f"batch_size: got {batch} on {world_size} processes with {splits} batch norm splits, "
            f"expected a multiple of {world_size * splits}; change --batch-size or --bn-splits"
        )
    if queue < batch or queue % batch:
        raise ValueError(
            f"moco_k: got a queue of {queue} keys and batches of {batch}, expected a queue "
            f"divisible by the batch; nearest --moco-k {max(1, round(queue / batch)) * batch}"
        )
