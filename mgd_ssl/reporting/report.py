"""``mgd-ssl report``: runs side by side on one page."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mgd_ssl.evaluation.results import write_json
from mgd_ssl.files import write_text
from mgd_ssl.reporting import Group, group_runs, read_runs, summarize
from mgd_ssl.reporting.document import render
from mgd_ssl.reporting.escaping import visible
from mgd_ssl.reporting.features import feature_map, retrieval_examples
from mgd_ssl.reporting.pictures import (
    Picture,
    Section,
    feature_picture,
    retrieval_picture,
    write_pictures,
)
from mgd_ssl.reporting.results import read_published
from mgd_ssl.runs.overwriting import check_output_files
from mgd_ssl.settings.report import ReportConfig
from mgd_ssl.training.logging import logger, start_logging


def run(config: ReportConfig) -> list[Path]:
    """Read the runs and write page, Markdown, JSON and PNG files; returns their paths."""
    start_logging()
    paths = [config.out, config.out.with_suffix(".md"), config.out.with_suffix(".json")]
    earlier = [*config.png.glob("*")] if config.png else []
    check_output_files([*paths, *earlier], lambda: _is_report(paths[-1]))
    groups = group_runs(read_runs(config.runs, config.baseline))
    summary = summarize(config.title, groups, read_published(config.published))
    document = render(summary, groups, [*_sections(config, groups)])
    write_text(paths[0], document.page)
    write_text(paths[1], document.markdown)
    write_json(paths[2], summary)
    if config.png:
        paths += write_pictures(config.png, document.pictures)
    for note in (note for run in summary["runs"] for note in run["left_out"]):
        logger.warning("left out: %s", visible(note))
    for line in summary["verdict"]:
        logger.info("%s", visible(" ".join([line["sentence"], *line["cautions"]])))
    pictures = f" and {len(paths) - 3} pictures in {config.png}" if config.png else ""
    logger.info("written: %s%s", ", ".join(map(str, paths[:3])), pictures)
    return paths


def _is_report(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"title", "verdict", "groups", "runs"} <= content.keys()


def _sections(config: ReportConfig, groups: Sequence[Group]) -> Iterator[Section]:
    """The sections that run the networks."""

    def features(group: Group) -> Picture:
        return feature_picture(group.name, feature_map(group.first, config.umap))

    def retrieval(group: Group) -> Picture:
        return retrieval_picture(group.name, retrieval_examples(group.first, config.retrieve))

    if config.features:
        yield "Features", [_or_reason(group, features) for group in groups]
    if config.retrieve:
        yield "Retrieval", [_or_reason(group, retrieval) for group in groups]


def _or_reason(group: Group, draw: Callable[[Group], Picture]) -> Picture | str:
    """A picture, or why there is none: a run without its data does not fail the whole report."""
    try:
        return draw(group)
    except (ValueError, OSError) as error:
        logger.warning("%s: no picture: %s", visible(group.name), visible(str(error)))
        return f"{group.name}: no picture: {error}."
