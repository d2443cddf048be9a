"""``mgd-ssl cache``: a teacher's answers, stored for training."""

from collections.abc import Sequence

from mgd_ssl.commands.terminal import guarded
from mgd_ssl.settings.cache import CacheConfig
from mgd_ssl.settings.parsing import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return guarded(lambda: run(parse(CacheConfig, "mgd-ssl cache", argv)), "cache", argv)


def run(config: CacheConfig) -> None:
    """Run it as parsed."""
    from mgd_ssl.runs.cache import run  # torch loads only once the options are known to be good

    run(config)


if __name__ == "__main__":
    raise SystemExit(main())
