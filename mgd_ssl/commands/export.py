"""``mgd-ssl export``: a checkpoint as a file of another library."""

from collections.abc import Sequence

from mgd_ssl.commands.terminal import guarded
from mgd_ssl.settings.export import ExportConfig
from mgd_ssl.settings.parsing import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return guarded(lambda: run(parse(ExportConfig, "mgd-ssl export", argv)), "export", argv)


def run(config: ExportConfig) -> None:
    """Run it as parsed."""
    from mgd_ssl.exporting.run import run  # torch loads once the options are good

    run(config)


if __name__ == "__main__":
    raise SystemExit(main())
