"""Exporting a checkpoint: write, load again, compare, and only then keep."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mgd_ssl.choices import EXPORT_TARGETS
from mgd_ssl.data import (
    CenterCrop,
    NoValidationError,
    eval_transform,
    make_loader,
    open_sources,
    spread_out,
)
from mgd_ssl.detection.checkpoints import is_detector, load_detector
from mgd_ssl.evaluation.results import print_table, write_json
from mgd_ssl.exporting.card import model_card
from mgd_ssl.exporting.comparison import Difference, compare
from mgd_ssl.exporting.original import InputContract, Original
from mgd_ssl.exporting.packages import require_packages
from mgd_ssl.exporting.target import Target
from mgd_ssl.files import WriteError, move_whole, write_error, write_text
from mgd_ssl.models import Taps, find_checkpoint, load_classifier, probe
from mgd_ssl.models.provenance import sha256_of
from mgd_ssl.runs.overwriting import check_output_files
from mgd_ssl.settings.export import ExportConfig
from mgd_ssl.settings.options import named
from mgd_ssl.settings.parsing import defaults_of
from mgd_ssl.training.logging import logger, start_logging
from mgd_ssl.training.run_files import classifier_beside

IMAGES = 8
DETECTOR_SIZE = 256  # side of the images that detectors are compared on, which take any
TABLE, CARD = ".json", ".md"


def run(config: ExportConfig) -> Path:
    """Write the file, its table of differences and its card; returns the file's path.

    Raises:
        ValueError: the target lacks a package or has no such network, or the exported network
            does not agree with the original; nothing is left behind then.
    """
    start_logging()
    config = replace(config, checkpoint=find_checkpoint(config.checkpoint, config.data))
    target: Target = EXPORT_TARGETS[config.to]()
    require_packages("to", target.name, target.packages)
    path = output_path(config, target)
    logger.info("reading %s", config.checkpoint)
    original = read_original(config)
    logger.info("%s", original.report)
    say_classifier(config)
    require_fit(target, original)
    others = [_named(path, TABLE), _named(path, CARD)]
    others += [path.with_suffix(suffix) for suffix in target.beside(original)]
    check_output_files([path, *others], lambda: _is_own(path, target.name))
    images, data = real_images(config, original)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        written = Path(folder) / path.name
        logger.info("writing for %s", target.name)
        try:
            target.write(original, written)
        except OSError as error:
            raise write_error(path, error) from error
        logger.info("loading it again, as %s does", target.name)
        loaded = target.load(original, written)
        logger.info("comparing both on %d images of %s", len(images), data)
        differences = compare(original.run, loaded, images)
        rows = [difference.row() for difference in differences]
        print_table(f"{target.name}: differences on {len(images)} images of {data}", rows)
        require_agreement(target, differences)
        table = _table(config, target, original, differences, len(images), data)
        _keep(path, written, original, target, table)
    logger.info("input: %s", original.contract)
    logger.info("written: %s", ", ".join(map(str, [path, *others])))
    for caveat in target.caveats(original):
        logger.warning("in %s: %s", target.name, caveat)
    print("\n".join(["", "Load it:", *target.loading(original, str(path))]))
    return path


def output_path(config: ExportConfig, target: Target) -> Path:
    """The file to write: that of ``--out``, or one beside the checkpoint."""
    path = config.out
    if path is None:
        source = config.checkpoint
        is_file = source.is_file()
        path = source.with_suffix(target.ending) if is_file else Path(source.name + target.ending)
    suffix = f".{target.ending.rpartition('.')[2]}"
    if path.suffix != suffix:
        raise ValueError(f"out: got {path}, expected a name that ends in {suffix}")
    return path


def read_original(config: ExportConfig) -> Original:
    """The network in the checkpoint, with its classifier where it has one."""
    if is_detector(config.checkpoint):
        _refuse_shape(config)
        detector, report = load_detector(config.checkpoint, arch=config.network.arch)
        size = config.size or detector.spec.min_size
        longer = detector.spec.max_size
        return Original(
            detector, report, InputContract(size, report.mean, report.std, longer=longer)
        )
    network, report = load_classifier(config.checkpoint, **config.network.spec)
    size = config.size or report.size or (224 if config.data else 32)
    probe(network, Taps([]), size)  # a size that it cannot take is refused
    contract = InputContract(size, report.mean, report.std, CenterCrop.of(size))
    return Original(network, report, contract)


def say_classifier(config: ExportConfig) -> None:
    """Say where the classifier is, if the checkpoint is the backbone that classify exported."""
    trained = classifier_beside(config.checkpoint)
    if trained:
        logger.warning(
            "%s is the backbone alone, which gives features; its classifier is exported by: "
            "mgd-ssl export %s --to %s",
            *(config.checkpoint, trained, config.to),
        )


def _refuse_shape(config: ExportConfig) -> None:
    """Refuse options of a classifier's shape, which a detector's file says itself."""
    usual = defaults_of(config).network
    for name in ("width", "stem", "stem_stride"):
        if getattr(config.network, name) != getattr(usual, name):
            raise ValueError(
                f"{name}: got {getattr(config.network, name)} with a detector, whose file says it; "
                f"leave --{name.replace('_', '-')} out"
            )


def require_fit(target: Target, original: Original) -> None:
    """Refuse a network that the target has no place for.

    Raises:
        ValueError: names the targets that have.
    """
    refusal = target.refusal(original)
    if not refusal:
        return
    others = [name for name in EXPORT_TARGETS if name != target.name]
    fitting = [name for name in others if not EXPORT_TARGETS[name]().refusal(original)]
    remedy = f"export it --to {' or '.join(fitting)}" if fitting else "no target takes it"
    raise ValueError(f"to: {target.name} does not take {original.report.path}: {refusal}; {remedy}")


def real_images(config: ExportConfig, original: Original) -> tuple[Tensor, str]:
    """Some images (N,3,S,S), normalized, from all over the data, and the data in words."""
    opening = config.folders.opening
    try:
        source = open_sources(config.data, "val", **opening)
    except NoValidationError:
        source = open_sources(config.data, "train", **opening)
    chosen = np.array(spread_out(len(source), IMAGES))
    size = original.contract.size
    size = min(size, DETECTOR_SIZE) if original.is_detector else size
    loader = make_loader(source.select(chosen), size, len(chosen), train=False)
    batch = next(iter(loader))
    kept = batch.images[batch.failed < 0]
    if len(kept) < 2:
        raise ValueError(
            f"data: got {len(kept)} images that can be decoded of {len(chosen)} in "
            f"{source.name}, expected two or more to compare the networks on; name other DATA"
        )
    contract = original.contract
    return eval_transform(contract.mean, contract.std)(kept), named(config.data)


def require_agreement(target: Target, differences: list[Difference]) -> None:
    """Refuse to keep a file whose network says something else.

    Raises:
        ValueError: names the outputs.
    """
    wrong = [d.output for d in differences if not d.agrees]
    if wrong:
        raise ValueError(
            f"to: {target.name} computes other {', '.join(wrong)} than the checkpoint (see the "
            "table); expected the same but for rounding. The file is not kept; export it --to "
            "another target, and report this"
        )


def _table(
    config: ExportConfig,
    target: Target,
    original: Original,
    differences: list[Difference],
    images: int,
    data: str,
) -> dict[str, Any]:
    return {
        "export": target.name,
        "checkpoint": str(original.report.path),
        "network": original.spec.to_dict(),
        "input": original.contract.to_dict(),
        "images": images,
        "data": data,
        "differences": [difference.to_dict() for difference in differences],
        "provenance": original.provenance,
    }


def _keep(
    path: Path, written: Path, original: Original, target: Target, table: dict[str, Any]
) -> None:
    """Put the file, and what stands beside it, in their places, when all of them are written."""
    beside = {path.with_suffix(suffix): text for suffix, text in target.beside(original).items()}
    beside[_named(path, CARD)] = model_card(original, target, path, table)
    digest = sha256_of(written)[path.name]
    content = {"file": path.name, "sha256": digest, **table}
    try:
        for place, text in beside.items():
            write_text(written.with_name(place.name), text)
        write_json(written.with_name(_named(path, TABLE).name), content)
    except WriteError as error:  # names a file in the temporary folder
        cause = error.__cause__
        raise write_error(path, cause if isinstance(cause, Exception) else error) from error
    for place in (path, *beside, _named(path, TABLE)):
        move_whole(written.with_name(place.name), place)


def _named(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _is_own(path: Path, target: str) -> bool:
    """Whether the table beside a file says that this command wrote it, as it is now."""
    try:
        content = json.loads(_named(path, TABLE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    written = isinstance(content, dict) and content.get("export") == target
    return written and (not path.exists() or content.get("sha256") == sha256_of(path)[path.name])
