"""Pretraining: wires data, networks, objective, distiller and loop together."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from lightning.fabric import Fabric
from torch import Tensor, nn

from mgd_ssl.commands.options import parse
from mgd_ssl.commands.pretrain_config import CONTRASTS, PretrainConfig, resolve
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
from mgd_ssl.objectives import (
    SEED,
    CompRess,
    DisCo,
    MoCo,
    Objective,
    Pretraining,
    SimReg,
    SimSiam,
)
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
    teacher, report = load_teacher(config) if config.teacher.teacher else (None, None)
    student = create_backbone(**config.network.spec)
    reader = None
    if teacher or config.network.taps:
        reader = find_reader(student, config.network.taps, cast(int, config.loader.size))
    parts: dict[str, Any] = {"teacher": teacher, "reader": reader}
    if teacher and reader and (config.method == "mgd" or config.mgd.mgd_weight is not None):
        parts["distiller"] = build_distiller(config, teacher, student, reader)
    _split_norms(config, student, fabric.world_size)
    objective = build_objective(config, student, report)
    normalize = Normalize(config.loader.mean, config.loader.std)
    weight = config.objective.objective_weight
    task = Pretraining(student, objective, normalize, weight, **parts)
    return PretrainRun(config, fabric, task, source, report)


def build_objective(
    config: PretrainConfig, student: nn.Module, report: KeyReport | None
) -> Objective:
    """What drives the student; MoCo and DisCo put a head in its classifier's place."""
    moco, options = config.moco, config.objective
    queue, features = cast(int, moco.moco_k), cast(int, student.num_features)
    momentum: dict[str, Any] = {
        "queue_size": queue,
        "momentum": moco.moco_m,
        "temperature": moco.moco_t,
    }
    if config.method in ("mgd", "moco"):
        return MoCo(student, dim=moco.moco_dim, mlp=moco.mlp, **momentum)
    if config.method == "simsiam":
        return SimSiam(features, options.simsiam_dim)
    assert report is not None
    target = report.features
    if config.method == "simreg":
        return SimReg(features, target)
    if config.method == "seed":
        return SEED(features, target, queue, options.seed_t, options.seed_teacher_t)
    if config.method == "compress":
        return CompRess(features, target, queue, options.compress_queues, options.compress_t)
    hidden, weight = options.disco_hidden, options.disco_weight
    return DisCo(student, target, hidden, weight, **momentum)


def _split_norms(config: PretrainConfig, student: nn.Module, world_size: int) -> None:
    """Split the batch norms where one process contrasts a batch's images with each other."""
    alone = world_size == 1 and config.method in CONTRASTS
    splits = config.moco.bn_splits or (8 if alone else 1)
    others = split_batch_norms(student, splits)
    if others and splits > 1:
        logger.warning("%d batch norms cannot be split; keys may leak through them", others)
    _check_batch(config, world_size, splits)


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
    """One or two views of each image; kNN accuracy as training goes."""

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
        """One or two views of a batch -> the named losses."""
        self.guard.check(batch)
        views = 2 if self.task.objective.needs_key else 1
        losses: dict[str, Tensor] = self.module(*(self.view(batch.images) for _ in range(views)))
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
        """facebookresearch/moco's ``arch`` and ``state_dict``, and beside them what they lack.

        The state dict of an objective that holds no encoder begins with ``backbone.`` and
        ``objective.`` instead of ``module.encoder_q.``.
        """
        loader = self.config.loader
        return {
            "arch": self.config.network.arch,
            "state_dict": {
                f"{prefix}{k}": v
                for prefix, module in self._saved().items()
                for k, v in module.state_dict().items()
            },
            "backbone": cast(BackboneSpec, self.task.student.spec).to_dict(),
            "normalisation": loader.normalisation,
            "size": loader.size,
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Student and objective, queues and key encoder among it."""
        for prefix, module in self._saved().items():
            state = {k: v for k, v in content["state_dict"].items() if k.startswith(prefix)}
            module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items()})

    def _saved(self) -> dict[str, nn.Module]:
        """What a checkpoint holds, by the prefix of its keys."""
        if isinstance(self.task.objective, MoCo):
            return {"module.": self.task.objective}
        return {"backbone.": self.task.student, "objective.": self.task.objective}

    def export(self, directory: Path) -> None:
        """The backbone without its head, under torchvision's or timm's keys."""
        export_backbone(self.config, self.task.student, directory)

    def compile(self) -> int:
        """The key encoder too, where there is one."""
        objective = self.task.objective
        keys = compile_parts(objective.encoder_k) if isinstance(objective, MoCo) else 0
        return super().compile() + keys


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
