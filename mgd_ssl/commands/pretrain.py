"""``pretrain.py``: distil a student from a teacher on unlabeled images, or train one alone."""

from collections.abc import Sequence

from mgd_ssl.commands.terminal import guarded
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import PretrainConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return guarded(lambda: run(parse(PretrainConfig, "pretrain.py", argv)), "pretrain", argv)


def run(config: PretrainConfig) -> None:
    """Run it as parsed."""
    from mgd_ssl.runs.pretrain import run  # torch loads only once the options are known to be good

    run(config)


if __name__ == "__main__":
    raise SystemExit(main())
