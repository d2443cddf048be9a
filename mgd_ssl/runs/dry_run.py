"""``pretrain.py --dry-run``: what a run would cost, and whether the teacher knows the images.

A few real steps are taken on networks that are thrown away; nothing is written.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mgd_ssl.data import ImageLoader, subset
from mgd_ssl.data.views import to_unit
from mgd_ssl.evaluation.health import effective_rank
from mgd_ssl.evaluation.knn import knn_accuracy
from mgd_ssl.fabric import Fabric
from mgd_ssl.models import evaluating, pool
from mgd_ssl.progress import format_duration, steady_rate
from mgd_ssl.runs.pretrain import PretrainRun
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.tasks.task import Teacher
from mgd_ssl.training.loaders import build_loader
from mgd_ssl.training.logging import logger
from mgd_ssl.training.loop import Position, take_step
from mgd_ssl.training.memory import states_of, step_memory
from mgd_ssl.training.memory_check import REFUSED, share_of
from mgd_ssl.training.run import TrainingRun

TIMED = 6  # steps at least, the first two to warm up
SAMPLE, NEIGHBORS = 512, 10
SOLVED_BATCHES = 2


def dry_run(run: PretrainRun, asked: PretrainConfig) -> dict[str, Any]:
    """Print the plan, the cost and a first look at the teacher; returns the figures.

    Args:
        run: whose teacher is run in every step where a cache is yet to be made.
        asked: what the user asked for, a cache among it.

    Raises:
        ValueError: the run would be refused.
    """
    run.say_found()
    figures: dict[str, Any] = {}
    networks = {"student": run.task.student}
    if run.task.teacher:
        networks["teacher"] = run.task.teacher.network
    for name, network in networks.items():
        size = run.config.loader.size
        size = run.config.teacher.teacher_size or size if name == "teacher" else size
        figures[name] = _network(name, network, size, run.fabric.device)
    figures["memory"] = _memory(run)
    figures["teacher_knows"] = _teacher(run)
    figures["images_per_second"] = _speed(run)
    _cache(run, asked)
    figures["run"] = _whole(run, figures["images_per_second"])
    logger.info("dry run: nothing was written; leave --dry-run out to start")
    return figures


def _network(name: str, network: nn.Module, size: int, device: torch.device) -> dict[str, float]:
    parameters = sum(p.numel() for p in network.parameters())
    image = torch.zeros(1, 3, size, size, device=device)
    with evaluating(network), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    operations = counter.get_total_flops()
    logger.info(
        "%s: %.3g million parameters, %.3g GFLOP an image of %d pixels",
        *(name, parameters / 1e6, operations / 1e9, size),
    )
    return {"parameters": parameters, "flops": operations}


def _memory(run: TrainingRun[Any, Any]) -> dict[str, float]:
    """A step's memory, and the largest batch that fits into it and that the images fill."""
    data, processes = run.data, int(run.fabric.world_size)
    assert data.size is not None
    need = step_memory(run.task, run.optimizer, run.fabric, data.size, data.views_per_image)
    batch = run.config.optim.batch_size
    parts = processes * run.config.optim.accumulate
    took, free = need.bytes_for(batch // parts), share_of(run.fabric.device)
    if free is None:
        logger.info("memory: a step of %d images takes about %.1f GB", batch, took / 1e9)
        return {"step": took}
    least = need.bytes_for(0)
    each = max(need.bytes_for(1) - least, 1)
    most, images = int((free * REFUSED - least) // each) * parts, len(data.source)
    fitting = 2 ** int(math.log2(min(most, images))) if min(most, images) > 0 else 0
    bound = "fits" if most <= images else f"the {images:,} training images fill"
    logger.info(
        "memory: a step of %d images takes about %.2g of %.3g GB; the largest power of two that "
        "%s is -b %d",
        *(batch, took / 1e9, free / 1e9, bound, fitting),
    )
    return {"step": took, "free": free, "largest_batch": fitting}


@torch.no_grad()
def _teacher(run: PretrainRun) -> dict[str, float]:
    """Whether the teacher's features of some training images have structure."""
    teacher = run.task.teacher
    if teacher is None:
        return {}
    source = subset(run.data.source, SAMPLE, run.config.seed)
    features, indices = [], []
    for batch in build_loader(run.config, run.fabric, source, size=run.data.size):
        images = to_unit(run.fabric.to_device(batch.images))
        with run.fabric.autocast():
            features.append(pool(teacher(images)[1]).float().cpu())
        indices.append(batch.indices)
    x = torch.cat(features)
    found = {"effective_rank": effective_rank(x), "images": len(x), "features": x.shape[1]}
    said = f"effective rank {found['effective_rank']:.1f} of {x.shape[1]} over {len(x)} images"
    if source.labels is not None and len(x) >= 4 * NEIGHBORS:
        labels = torch.from_numpy(source.labels)[torch.cat(indices)]
        half = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        bank, queries = half[: len(x) // 2], half[len(x) // 2 :]
        votes = knn_accuracy(x[bank], labels[bank], x[queries], labels[queries], k=NEIGHBORS)
        found["knn_top1"] = votes["top1"]
        said += f"; kNN top-1 {votes['top1']:.1f} % with {len(bank)} of them as the bank"
    logger.info("the teacher on these images: %s", said)
    return found


def _cache(run: PretrainRun, asked: PretrainConfig) -> None:
    """Disk and time of a teacher cache that the run would make first."""
    if not asked.cache_views or run.config.teacher_cache:
        return
    from mgd_ssl.runs.cache import say_time
    from mgd_ssl.runs.cached_teacher import find_cache

    teacher, report = run.task.teacher, run.reports.teacher
    assert isinstance(teacher, Teacher) and report
    cached = replace(run.config, teacher_cache=asked.teacher_cache, cache_views=asked.cache_views)
    seen = run.data.views_per_image
    if maker := find_cache(cached, run.fabric, run.data.source, teacher, report, seen).maker:
        say_time(maker)
    logger.info(
        "dry run: no teacher cache is made; memory, speed and time are those of a teacher that "
        "runs in every step, and with the cache the run is smaller and faster"
    )


def _speed(run: PretrainRun) -> float:
    """Images a second of real steps, from the loader to the optimizer."""
    fabric, task = run.fabric, run.task
    run.lay_out()
    if task.distiller:
        _solve(run, fabric)

    def done() -> Iterator[int]:
        for batch in run.data.loader:
            take_step(fabric, run.optimizer, run.parts(fabric.to_device(batch)), run.update)
            if fabric.device.type == "cuda":
                torch.cuda.synchronize(fabric.device)
            yield run.config.optim.batch_size

    rate = steady_rate(done(), cast(ImageLoader, run.data.loader).ahead, TIMED)
    logger.info("speed: %.0f images/s in real steps, with decoding", rate)
    return rate


def _solve(run: PretrainRun, fabric: Fabric) -> None:
    task = run.task
    assert task.distiller

    def some() -> Iterable[Any]:
        return islice(run.data.solving_batches(Position()), SOLVED_BATCHES)

    with fabric.autocast():
        if task.distiller.needs_measuring:
            task.measure(some())
        task.solve(some())


def _whole(run: PretrainRun, rate: float) -> dict[str, float]:
    """Time and disk of the whole run, solves and measurements left out."""
    epochs, batch = run.learning_rate.epochs, run.config.optim.batch_size
    seconds = epochs * run.steps * batch / rate
    teacher = run.task.teacher
    weights = _bytes(run.task) - (_bytes(teacher) if teacher else 0)
    groups = run.optimizer.param_groups
    states = sum(states_of(g) * 4 * sum(p.numel() for p in g["params"]) for g in groups)
    average = _bytes(run.task.student) if run.average else 0
    disk = 2 * (weights + average + states)  # last.pt and best.pt
    logger.info(
        "the run: %d epochs of %d steps, about %s without solves and measurements; checkpoints "
        "take about %.2g GB in %s",
        *(epochs, run.steps, format_duration(seconds), disk / 1e9, run.config.out),
    )
    return {"seconds": seconds, "disk": disk}


def _bytes(module: nn.Module) -> int:
    """Of a module's tensors, as a checkpoint holds them."""
    return sum(v.nbytes for v in module.state_dict().values() if isinstance(v, Tensor))
