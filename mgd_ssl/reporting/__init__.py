"""Reports of runs as a web page, Markdown and JSON."""

from mgd_ssl.reporting.groups import Group, group_runs
from mgd_ssl.reporting.runs import Run, read_run, read_runs
from mgd_ssl.reporting.summary import summarize

__all__ = ["Group", "Run", "group_runs", "read_run", "read_runs", "summarize"]
