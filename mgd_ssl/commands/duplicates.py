"""``mgd-ssl duplicates``: validation images that are also training images."""

from collections.abc import Sequence

from mgd_ssl.commands.terminal import guarded
from mgd_ssl.settings.duplicates import DuplicatesConfig
from mgd_ssl.settings.parsing import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return guarded(
        lambda: run(parse(DuplicatesConfig, "mgd-ssl duplicates", argv)), "duplicates", argv
    )


def run(config: DuplicatesConfig) -> None:
    """Run it as parsed."""
    from mgd_ssl.runs.duplicates import (
        run,  # torch loads only once the options are known to be good
    )

    run(config)


if __name__ == "__main__":
    raise SystemExit(main())
