"""When features have collapsed: what training warns of, and what a report repeats."""

# Features after a ReLU share a direction: 0.15 is healthy there, so the alarm is far below it.
MIN_DEVIATION, MIN_RANK = 0.02, 2.0


def collapse_signs(rank: float, deviation: float, of: int | None = None) -> str:
    """Those of two figures that tell of a collapse, in words; empty if none does.

    Args:
        rank: the effective rank of features.
        deviation: their mean deviation.
        of: how many features there are.
    """
    ends = f" of {of}" if of else ""
    signs = [f"effective rank {rank:.2f}{ends}"] * (rank < MIN_RANK)
    signs += [f"deviation {deviation:.3f}"] * (deviation < MIN_DEVIATION)
    return ", ".join(signs)
