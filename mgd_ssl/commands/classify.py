"""``mgd-ssl classify``: train a classifier, alone or distilled from a teacher."""

from collections.abc import Sequence

from mgd_ssl.commands.terminal import guarded
from mgd_ssl.settings.classify import ClassifyConfig
from mgd_ssl.settings.parsing import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return guarded(lambda: run(parse(ClassifyConfig, "mgd-ssl classify", argv)), "classify", argv)


def run(config: ClassifyConfig) -> None:
    """Run it as parsed."""
    from mgd_ssl.runs.classify import run  # torch loads only once the options are known to be good

    run(config)


if __name__ == "__main__":
    raise SystemExit(main())
