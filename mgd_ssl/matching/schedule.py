"""When the matching is solved again: often at first, then ever more seldom."""


def unsupervised_epochs(total_epochs: int) -> list[int]:
    """Epochs (1-based) before which the matching is solved, log-spaced.

    They are 1 and 1 + ⌊5^(k/3)⌋: five times as late every third solve. A run of 200 epochs solves
    at the published [1, 2, 3, 6, 9, 15, 26, 43, 74, 126]; a shorter run at those it reaches, a
    longer one goes on by the same rule.

    Raises:
        ValueError: ``total_epochs`` is below 1.
    """
    if total_epochs < 1:
        raise ValueError(f"schedule: got {total_epochs} epochs, expected at least 1")
    epochs = [1]
    k = 1
    while (epoch := 1 + int(5 ** (k / 3) + 1e-9)) <= total_epochs:  # 5^(6/3) may fall short of 25
        epochs.append(epoch)
        k += 1
    return epochs


def evenly_spaced_epochs(total_epochs: int, interval: int = 2) -> list[int]:
    """Epochs (1-based) before which the matching is solved: the first, then each ``interval``-th.

    Classification's schedule solves every 2 epochs.

    Raises:
        ValueError: ``total_epochs`` or ``interval`` is below 1.
    """
    if total_epochs < 1 or interval < 1:
        raise ValueError(
            f"schedule: got {total_epochs} epochs and a step of {interval}, expected both at "
            "least 1"
        )
    return list(range(1, total_epochs + 1, interval))


def detection_iterations(total_iterations: int) -> list[int]:
    """Iterations (0-based) at which detection solves: every 5,000 to 20,000, then every 31,000.

    Raises:
        ValueError: ``total_iterations`` is below 1.
    """
    if total_iterations < 1:
        raise ValueError(f"schedule: got {total_iterations} iterations, expected at least 1")
    early = range(0, min(total_iterations, 20_001), 5_000)
    return [*early, *range(51_000, total_iterations, 31_000)]
