"""The matching inspector: which teacher channels were grouped, at what cost, how steadily."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mgd_ssl.reporting.blocks import Block, Picture, Table, Words, cell
from mgd_ssl.reporting.charts import heat_map, line_chart
from mgd_ssl.reporting.groups import Group
from mgd_ssl.reporting.matching import read_matching
from mgd_ssl.reporting.runs import Run, Series

Summary = Mapping[str, Any]


def inspect_matching(groups: Sequence[Summary], runs: Sequence[Group]) -> Iterator[Block]:
    """Tables and charts of the first run of each group.

    Args:
        groups: their numbers, of `summarise`.
        runs: the groups themselves, in the same order.
    """
    for group, members in zip(groups, runs, strict=True):
        if group["matching"]:
            yield from _inspect(group["name"], group["matching"], members.first)
    without = [g["name"] for g in groups if not g["matching"]]
    if without:
        yield Words(f"No matching was solved in: {', '.join(without)}.")


def _inspect(name: str, stages: Mapping[str, Any], run: Run) -> Iterator[Block]:
    """One run's matching; it stands for its group."""
    path = run.path.absolute().name
    yield Words(f"{name}: the solves of {path}, seed {cell(run.setting('seed'))}.")
    header = ["stage", "channels", "members: groups", "never chosen"]
    yield Table(f"Groups of {path} at its last solve", header, [*_groups(stages)])
    costs = {stage: _over_first(s["solves"]) for stage, s in stages.items()}
    text = f"Total cost of {path} over its solves, per cent of the first"
    yield Picture(f"{text}.", line_chart(f"{text} {name}", text, costs, "per cent", "solve"))
    header = ["stage", "before", "total cost", "changed group, % of teacher channels"]
    yield Table(f"Solves of {path}", header, [*_solves(stages)])
    for stage, solves in read_matching(run.path).items():
        text = (
            f"Cost of {path}, stage {stage}, at its last solve: student channels by what "
            "their group costs, teacher channels by group, those never chosen at the end"
        )
        cost, _, _ = solves[-1].sorted()
        yield Picture(f"{text}.", heat_map(f"cost {path} {name} {stage}", text, cost))


def _over_first(solves: Sequence[Summary]) -> Series:
    first = solves[0]["total_cost"] or 1.0
    return {float(i): 100 * s["total_cost"] / first for i, s in enumerate(solves, 1)}


def _groups(stages: Mapping[str, Summary]) -> Iterator[list[str]]:
    for name, s in stages.items():
        sizes = ", ".join(f"{size}: {count}" for size, count in s["group_sizes"].items())
        channels = f"{s['student_channels']} <- {s['teacher_channels']}"
        yield [name, channels, sizes, cell(s["never_chosen"])]


def _solves(stages: Mapping[str, Summary]) -> Iterator[list[str]]:
    for name, stage in stages.items():
        for s in stage["solves"]:
            yield [name, s["before"], cell(s["total_cost"]), cell(s["changed_percent"])]
