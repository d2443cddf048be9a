"""``mgd-ssl report``: one page of runs."""

from collections.abc import Sequence

from mgd_ssl.commands.terminal import guarded
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.report import ReportConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return guarded(lambda: run(parse(ReportConfig, "mgd-ssl report", argv)), "report", argv)


def run(config: ReportConfig) -> None:
    """Run it as parsed."""
    from mgd_ssl.reporting.report import (
        run,  # torch loads only once the options are known to be good
    )

    run(config)


if __name__ == "__main__":
    raise SystemExit(main())
