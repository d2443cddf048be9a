"""Parts that every training command builds, each checked before the run starts."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import cast

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from mgd_ssl import distributed
from mgd_ssl.data import (
    ImageLoader,
    ImageSource,
    Normalize,
    RandomCrops,
    decoding_workers,
    make_loader,
    subset,
)
from mgd_ssl.data.views import to_unit
from mgd_ssl.distiller import Adapter, FeatureDistiller
from mgd_ssl.matching import stage_weights
from mgd_ssl.models import (
    BackboneSpec,
    FeatureReader,
    KeyReport,
    Taps,
    backbone_state,
    find_reader,
    probe,
)
from mgd_ssl.settings.run import RunConfig
from mgd_ssl.stages import plan_stages, read_margins
from mgd_ssl.tasks import Task, Teacher
from mgd_ssl.training.checkpoint import export_student
from mgd_ssl.training.logging import logger
from mgd_ssl.training.plan import print_plan

CALIBRATION_BATCHES = 8
IGNORED_BY_DEFAULT = {"mobilenet_v2": (0,), "shufflenet_v2_x1_0": (0,)}


def make_teacher(
    config: RunConfig, network: nn.Module, report: KeyReport, matched: bool = True
) -> Teacher:
    """Freeze a loaded network and, where it is matched, find where its maps are read."""
    logger.info("teacher %s", report)
    reader: FeatureReader = Taps([])
    if matched:
        taps, size = config.teacher.teacher_taps, cast(int, config.loader.size)
        reader = find_reader(network, taps, size, "--teacher-taps")
    return Teacher(network, reader, Normalize(report.mean, report.std))


def build_distiller(
    config: RunConfig, teacher: Teacher, student: nn.Module, reader: FeatureReader
) -> FeatureDistiller:
    """Pair the stages, print the plan, and build the distiller."""
    mgd, size = config.mgd, cast(int, config.loader.size)
    ignore = mgd.ignore
    if ignore is None:
        ignore = IGNORED_BY_DEFAULT.get(cast(BackboneSpec, student.spec).arch, ())
    teacher_maps = probe(teacher.network, teacher.reader, size)
    student_maps, norms = probe(student, reader, size), teacher.reader.norms(teacher.network)
    stages = plan_stages(teacher_maps, student_maps, reader.names, ignore, norms)
    margins = read_margins(norms, stages)
    if distributed.rank() == 0:
        expands = mgd.mgd_adapter == "expand"
        print_plan(stages, teacher.network, teacher.reader, reader, expands=expands)
    published = stage_weights(len(stages), images=1, factor=1.0)
    return FeatureDistiller(
        stages,
        margins,
        reducer=mgd.mgd_reducer,
        mode=mgd.mgd_mode,
        adapter=cast(Adapter, mgd.mgd_adapter),
        **mgd.scaling(published),
    )


def load_loader(
    config: RunConfig,
    fabric: Fabric,
    source: ImageSource,
    *,
    train: bool = False,
    crops: RandomCrops | None = None,
) -> ImageLoader:
    """Batches of a source, this rank's share; without ``crops`` the evaluation's centres."""
    return make_loader(
        source,
        cast(int, config.loader.size),
        share(config, fabric),
        train=train,
        crops=crops,
        seed=config.seed,
        workers=0 if source.in_memory else decoding_workers(config.loader.workers),
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        exif=config.loader.exif,
        bad_images=config.loader.bad_images if train else 1.0,
    )


def unit_images(
    config: RunConfig, fabric: Fabric, source: ImageSource, epoch: int
) -> Iterator[Tensor]:
    """(B,3,S,S) in [0,1] on the device: a random choice that differs by epoch, nothing else."""
    count = cast(int, config.mgd.mgd_update_images)
    chosen = subset(source, count, config.seed + epoch)
    for batch in load_loader(config, fabric, chosen):
        yield to_unit(fabric.to_device(batch.images))


def first_images(config: RunConfig, fabric: Fabric, source: ImageSource) -> Iterator[Tensor]:
    """(B,3,S,S) in [0,1] on the device: centres of the first steps' images, of whole batches."""
    loader = load_loader(config, fabric, source, train=True)
    for batch in islice(loader, CALIBRATION_BATCHES):
        yield to_unit(fabric.to_device(batch.images))


def share(config: RunConfig, fabric: Fabric) -> int:
    """Images of a step on each process.

    Raises:
        ValueError: the batch is not divisible by the processes.
    """
    batch, processes = cast(int, config.optim.batch_size), int(fabric.world_size)
    if batch % processes:
        raise ValueError(
            f"batch_size: got {batch} on {processes} processes, expected a multiple of them; "
            f"--batch-size {max(1, batch // processes) * processes}"
        )
    return batch // processes


def convert_sync_bn(task: Task, fabric: Fabric) -> None:
    """Let the student's and the adapters' batch norms take their statistics over all processes.

    Raises:
        ValueError: on the CPU, where torch has no such norm.
    """
    if fabric.device.type != "cuda":
        raise ValueError(
            f"sync_bn: got the device {fabric.device.type}, expected cuda, for which alone torch "
            "synchronises batch norms; leave --sync-bn out"
        )
    task.student = nn.SyncBatchNorm.convert_sync_batchnorm(task.student)  # type: ignore[no-untyped-call]
    if task.distiller:
        task.distiller = nn.SyncBatchNorm.convert_sync_batchnorm(task.distiller)  # type: ignore[no-untyped-call]


def export_backbone(config: RunConfig, student: nn.Module, directory: Path) -> None:
    """Write the student without its head, under torchvision's or timm's keys."""
    export_student(
        directory / "student.safetensors",
        backbone_state(student),
        cast(BackboneSpec, student.spec),
        config.loader.normalisation,
        cast(int, config.loader.size),
    )


def build_optimizer(config: RunConfig, task: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW over all that is trained: the student, its head and the adapters."""
    optim = config.optim
    rate, decay = cast(float, optim.lr), cast(float, optim.weight_decay)
    parameters = [p for p in task.parameters() if p.requires_grad]
    if optim.optimizer == "adamw":
        return torch.optim.AdamW(parameters, rate, weight_decay=decay)
    return torch.optim.SGD(
        parameters, rate, optim.momentum, weight_decay=decay, nesterov=optim.nesterov
    )
