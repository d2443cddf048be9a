"""``mgd-ssl report``: runs side by side on one page."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mgd_ssl.evaluation.results import write_json
from mgd_ssl.files import write_text
from mgd_ssl.reporting import Group, group_runs, read_runs, summarize
from mgd_ssl.reporting.document import Figure, Section, feature_figure, render, retrieval_figure
from mgd_ssl.reporting.escaping import visible
from mgd_ssl.reporting.features import feature_map, retrieval_examples
from mgd_ssl.runs.overwriting import check_output_files
from mgd_ssl.settings.report import ReportConfig
from mgd_ssl.training.logging import logger, start_logging


def run(config: ReportConfig) -> list[Path]:
    """Read the runs and write the page, the Markdown and the JSON; returns their paths."""
    start_logging()
    paths = [config.out, config.out.with_suffix(".md"), config.out.with_suffix(".json")]
    check_output_files(paths, lambda: _is_report(paths[-1]))
    groups = group_runs(read_runs(config.runs, config.baseline))
    summary = summarize(config.title, groups)
    page, markdown = render(summary, groups, [*_pictures(config, groups)])
    write_text(paths[0], page)
    write_text(paths[1], markdown)
    write_json(paths[-1], summary)
    for note in (note for run in summary["runs"] for note in run["left_out"]):
        logger.warning("left out: %s", visible(note))
    for line in summary["verdict"]:
        logger.info("%s", visible(line))
    logger.info("written: %s", ", ".join(map(str, paths)))
    return paths


def _is_report(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"title", "verdict", "groups", "runs"} <= content.keys()


def _pictures(config: ReportConfig, groups: Sequence[Group]) -> Iterator[Section]:
    """The sections that run the networks."""

    def features(group: Group) -> Figure:
        return feature_figure(group.name, feature_map(group.first, config.umap))

    def retrieval(group: Group) -> Figure:
        return retrieval_figure(group.name, retrieval_examples(group.first, config.retrieve))

    if config.features:
        yield "Features", [_or_reason(group, features) for group in groups]
    if config.retrieve:
        yield "Retrieval", [_or_reason(group, retrieval) for group in groups]


def _or_reason(group: Group, draw: Callable[[Group], Figure]) -> Figure | str:
    """A picture, or why there is none: a run without its data does not fail the whole report."""
    try:
        return draw(group)
    except (ValueError, OSError) as error:
        logger.warning("%s: no picture: %s", visible(group.name), visible(str(error)))
        return f"{group.name}: no picture: {error}."
