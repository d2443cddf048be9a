"""``linear_eval.py``: linear probe of a checkpoint."""

from collections.abc import Sequence

from mgd_ssl.commands.terminal import guarded
from mgd_ssl.settings.evaluation import LinearEvalConfig
from mgd_ssl.settings.parsing import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return guarded(
        lambda: run(parse(LinearEvalConfig, "linear_eval.py", argv)), "linear-eval", argv
    )


def run(config: LinearEvalConfig) -> None:
    """Run it as parsed."""
    from mgd_ssl.runs.linear import run  # torch loads only once the options are known to be good

    run(config)


if __name__ == "__main__":
    raise SystemExit(main())
