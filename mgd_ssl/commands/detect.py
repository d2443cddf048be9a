"""``mgd-ssl detect``: train a detector, alone or distilled from a teacher."""

from collections.abc import Sequence

from mgd_ssl.commands.terminal import guarded
from mgd_ssl.detection.settings import DetectConfig
from mgd_ssl.settings.parsing import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return guarded(lambda: run(parse(DetectConfig, "mgd-ssl detect", argv)), "detect", argv)


def run(config: DetectConfig) -> None:
    """Run it as parsed."""
    from mgd_ssl.detection.run import run  # torch loads only once the options are known to be good

    run(config)


if __name__ == "__main__":
    raise SystemExit(main())
