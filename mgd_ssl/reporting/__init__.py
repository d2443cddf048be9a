"""A report of runs: what a run directory holds, as one page, as Markdown and as JSON."""

from mgd_ssl.reporting.groups import Group, group_runs
from mgd_ssl.reporting.runs import Run, read_run, read_runs
from mgd_ssl.reporting.summary import summarise

__all__ = ["Group", "Run", "group_runs", "read_run", "read_runs", "summarise"]
