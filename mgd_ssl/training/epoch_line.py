"""The line that the screen shows of an epoch; train.log and metrics.jsonl hold all figures."""

from collections.abc import Mapping

from mgd_ssl.progress import format_speed

COLUMNS = 80
# The figure that is shown of those measured: the first that there is, its factor and its words.
SHOWN = (
    ("val_knn_top1_percent_of_teacher", 1, "kNN {:.1f} % of teacher"),
    ("val_knn_top1", 1, "kNN {:.1f} %"),
    ("health/neighbor_overlap", 100, "agreement {:.0f} %"),
    ("val_top1", 1, "top-1 {:.1f} %"),
    ("val_AP", 1, "AP {:.1f}"),
)


def epoch_line(
    epoch: int,
    epochs: int,
    steps: int,
    metrics: Mapping[str, float],
    *,
    loss: float,
    speed: float,
    left: str,
) -> str:
    """One line; the number of steps is left out where the line would exceed 80 columns.

    Args:
        epoch: that ended, from 0.
        epochs: of the run.
        steps: of an epoch.
        metrics: what was measured after the epoch.
        loss: its mean.
        speed: images a second.
        left: time that the steps left will take; empty after the last.
    """
    words = [f"epoch {epoch + 1}/{epochs}", f"{steps} steps", f"loss {loss:.4g}"]
    words += [format_speed(speed)] * (speed > 0) + [f"{left} left"] * bool(left)
    words += [text.format(by * metrics[name]) for name, by, text in SHOWN if name in metrics][:1]
    line = "  ".join(words)
    return line if len(line) <= COLUMNS else "  ".join([words[0], *words[2:]])
