"""Pretraining: wires data, networks, objective, distiller and loop together."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from lightning.fabric import Fabric
from torch import Tensor

from mgd_ssl.commands.options import parse
from mgd_ssl.commands.pretrain_config import PretrainConfig, resolve
from mgd_ssl.commands.report import guarded
from mgd_ssl.commands.run import TrainingRun, execute
from mgd_ssl.commands.run_parts import (
    build_distiller,
    export_backbone,
    load_loader,
    load_teacher,
    unit_images,
)
from mgd_ssl.data import (
    Batch,
    DecodeGuard,
    ImageSource,
    Normalize,
    build_view,
    open_source,
    subset,
)
from mgd_ssl.evaluation.online import OnlineKnn
from mgd_ssl.matching import every, unsupervised_epochs
from mgd_ssl.models import (
    BackboneSpec,
    KeyReport,
    create_backbone,
    find_reader,
    split_batch_norms,
    without_head,
)
from mgd_ssl.models.compiling import compile_parts
from mgd_ssl.objectives import MoCo, Pretraining
from mgd_ssl.training.logging import logger
from mgd_ssl.training.loop import Position


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return guarded(lambda: run(resolve(parse(PretrainConfig, "pretrain.py", argv))))


def run(config: PretrainConfig) -> None:
    """Pretrain a student."""
    execute(config, build)


def build(config: PretrainConfig, fabric: Fabric) -> "PretrainRun":
    """The parts of a run, each checked."""
    if config.device.strategy == "dp":
        raise ValueError("strategy: got dp, expected auto or ddp; MoCo's queue needs processes")
    source = open_source(config.data, "train")
    source = subset(source, config.loader.limit) if config.loader.limit else source
    teacher, report = load_teacher(config) if config.method == "mgd" else (None, None)
    student = create_backbone(**config.network.spec)
    parts: dict[str, Any] = {}
    if teacher or config.network.taps:
        reader = find_reader(student, config.network.taps, cast(int, config.loader.size))
        if teacher:
            distiller = build_distiller(config, teacher, student, reader)
            parts = {"teacher": teacher, "reader": reader, "distiller": distiller}
    moco = build_moco(config, student, fabric.world_size)
    normalize = Normalize(config.loader.mean, config.loader.std)
    task = Pretraining(moco, normalize, config.moco.contrastive_weight, **parts)
    return PretrainRun(config, fabric, task, source, report)


def build_moco(config: PretrainConfig, student: Any, world_size: int) -> MoCo:
    """The student's objective, with its batch norms split as one process needs."""
    splits = config.moco.bn_splits or (8 if world_size == 1 else 1)
    others = split_batch_norms(student, splits)
    if others and splits > 1:
        logger.warning("%d batch norms cannot be split; keys may leak through them", others)
    _check_batch(config, world_size, splits)
    return MoCo(
        student,
        dim=config.moco.moco_dim,
        queue_size=cast(int, config.moco.moco_k),
        momentum=cast(float, config.moco.moco_m),
        temperature=cast(float, config.moco.moco_t),
        mlp=config.moco.mlp,
    )


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


class PretrainRun(TrainingRun[PretrainConfig, Pretraining]):
    """Two views of each image; kNN accuracy as training goes."""

    metric = "val_knn_top1"

    def __init__(
        self,
        config: PretrainConfig,
        fabric: Fabric,
        task: Pretraining,
        source: ImageSource,
        report: KeyReport | None,
    ) -> None:
        loader = load_loader(config, fabric, source, train=True)
        super().__init__(config, fabric, task, loader, config.optim.learning_rate())
        self.source, self.report = source, report
        self.guard = DecodeGuard(source, config.loader.bad_images)
        self.view = build_view(config.views, cast(int, config.loader.size)).to(fabric.device)
        epochs, freq = self.loop.epochs, config.mgd.mgd_update_freq
        self.solve_before = every(epochs, freq) if freq else unsupervised_epochs(epochs)
        self.knn = build_knn(config, fabric)
        self.teacher_top1: float | None = None

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Two views of a batch -> the named losses."""
        self.guard.check(batch)
        losses: dict[str, Tensor] = self.module(self.view(batch.images), self.view(batch.images))
        return losses

    def is_due(self, here: Position) -> bool:
        """Before some epochs, ever more seldom."""
        return here.step == 0 and here.epoch + 1 in self.solve_before

    def statistics(self, here: Position) -> Iterable[Tensor]:
        """Another random choice of images each time."""
        return unit_images(self.config, self.fabric, self.source, here.epoch)

    def prepare(self) -> None:
        """The teacher's kNN accuracy, once; the student's is given as per cent of it."""
        teacher = self.task.teacher
        if teacher and self.report and self.knn and self.fabric.is_global_zero:
            self.teacher_top1 = self.knn(teacher.network, (self.report.mean, self.report.std))
            logger.info("teacher: kNN top-1 %.2f %% (%s)", self.teacher_top1, self.knn.settings)
        self.fabric.barrier()

    def measure(self, epoch: int) -> dict[str, float]:
        """kNN accuracy every so many epochs, and after the last."""
        every_n = self.config.evaluation.knn_every
        due = every_n and ((epoch + 1) % every_n == 0 or epoch + 1 == self.loop.epochs)
        if not (self.knn and due and self.fabric.is_global_zero):
            return {}
        with without_head(self.task.student) as backbone:
            top1 = self.knn(backbone, (self.config.loader.mean, self.config.loader.std))
        metrics = {"val_knn_top1": top1}
        if self.teacher_top1:
            metrics["val_knn_top1_percent_of_teacher"] = 100 * top1 / self.teacher_top1
        return metrics

    def networks(self) -> dict[str, Any]:
        """facebookresearch/moco's ``arch`` and ``state_dict``, and beside them what they lack."""
        loader = self.config.loader
        return {
            "arch": self.config.network.arch,
            "state_dict": {f"module.{k}": v for k, v in self.task.moco.state_dict().items()},
            "backbone": cast(BackboneSpec, self.task.student.spec).to_dict(),
            "normalisation": loader.normalisation,
            "size": loader.size,
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Student, key encoder and queue."""
        state = {k.removeprefix("module."): v for k, v in content["state_dict"].items()}
        self.task.moco.load_state_dict(state)

    def export(self, directory: Path) -> None:
        """The backbone without its head, under torchvision's or timm's keys."""
        export_backbone(self.config, self.task.student, directory)

    def compile(self) -> int:
        """The key encoder too."""
        return super().compile() + compile_parts(self.task.moco.encoder_k)


def build_knn(config: PretrainConfig, fabric: Fabric) -> OnlineKnn | None:
    """The kNN evaluator, where it is wanted and there are labels."""
    options = config.evaluation
    if options.knn_every == 0:
        return None
    data = options.eval_data or config.data
    try:
        bank = open_source(data, "train", labelled=True)
        queries = open_source(data, "val", labelled=True)
    except ValueError:
        if options.eval_data:
            raise
        logger.info("no labelled train and val parts in %s: no kNN as training goes", data)
        return None
    bank = subset(bank, options.knn_bank, config.seed)
    return OnlineKnn(
        bank=load_loader(config, fabric, bank, shard=False),
        queries=load_loader(config, fabric, queries, shard=False),
        k=cast(int, options.knn_k),
        temperature=options.knn_t,
        device=fabric.device,
    )
