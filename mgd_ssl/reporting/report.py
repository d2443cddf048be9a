"""``mgd-ssl report``: one page of runs, for people who would rather look."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mgd_ssl.evaluation.results import write_json
from mgd_ssl.files import write_text
from mgd_ssl.reporting import Group, group_runs, read_runs, summarise
from mgd_ssl.reporting.blocks import Block, Section, Words, visible
from mgd_ssl.reporting.document import build_sections, map_block, retrieval_block
from mgd_ssl.reporting.features import feature_map, retrieval_examples
from mgd_ssl.reporting.page import to_html
from mgd_ssl.reporting.text import to_markdown
from mgd_ssl.runs.outputs import refuse_foreign
from mgd_ssl.settings.report import ReportConfig
from mgd_ssl.training.logging import logger, start_logging


def run(config: ReportConfig) -> list[Path]:
    """Read the runs and write page, Markdown and JSON; returns their paths."""
    start_logging()
    paths = [config.out, config.out.with_suffix(".md"), config.out.with_suffix(".json")]
    refuse_foreign(paths, lambda: _is_report(paths[-1]))
    groups = group_runs(read_runs(config.runs, config.baseline))
    summary = summarise(config.title, groups)
    sections = build_sections(summary, groups)
    sections[-1:-1] = _looks(config, groups)
    page, markdown = to_html(summary, sections), to_markdown(summary, sections)
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


def _looks(config: ReportConfig, groups: Sequence[Group]) -> Iterator[Section]:
    """The sections that run the networks."""
    if config.features:
        yield Section("Features", [_map(group, config.umap) for group in groups])
    if config.retrieve:
        yield Section("Retrieval", [_retrieval(group, config.retrieve) for group in groups])


def _map(group: Group, umap: bool) -> Block:
    return _or_why_not(group, lambda: map_block(group.name, feature_map(group.first, umap)))


def _retrieval(group: Group, count: int) -> Block:
    def draw() -> Block:
        return retrieval_block(group.name, retrieval_examples(group.first, count))

    return _or_why_not(group, draw)


def _or_why_not(group: Group, draw: Callable[[], Block]) -> Block:
    """A picture, or why there is none: one run's lost data shall not cost the whole report."""
    try:
        return draw()
    except (ValueError, OSError) as error:
        logger.warning("%s: no picture: %s", visible(group.name), visible(str(error)))
        return Words(f"{group.name}: no picture: {error}.")
