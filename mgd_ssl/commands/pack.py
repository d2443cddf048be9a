"""``mgd-ssl pack``: images of any kind as tar shards."""

from collections.abc import Sequence

from mgd_ssl.commands.terminal import guarded
from mgd_ssl.settings.pack import PackConfig
from mgd_ssl.settings.parsing import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return guarded(lambda: run(parse(PackConfig, "mgd-ssl pack", argv)), "pack", argv)


def run(config: PackConfig) -> None:
    """Run it as parsed."""
    from mgd_ssl.runs.pack import run  # torch loads only once the options are known to be good

    run(config)


if __name__ == "__main__":
    raise SystemExit(main())
