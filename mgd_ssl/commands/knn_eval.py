"""``knn_eval.py``: kNN accuracy and retrieval checks of a checkpoint."""

from collections.abc import Sequence

from mgd_ssl.commands.terminal import guarded
from mgd_ssl.settings.evaluation import KnnConfig
from mgd_ssl.settings.parsing import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return guarded(lambda: run(parse(KnnConfig, "knn_eval.py", argv)), "knn-eval", argv)


def run(config: KnnConfig) -> None:
    """Run it as parsed."""
    from mgd_ssl.runs.knn import run  # torch loads only once the options are known to be good

    run(config)


if __name__ == "__main__":
    raise SystemExit(main())
