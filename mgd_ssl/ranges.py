"""Ranges of options, refused by name where they are left."""

from typing import Any


def require_least(options: Any, **least: float) -> None:
    """Refuse options below their least value; None passes.

    Raises:
        ValueError: names the first.
    """
    for name, bound in least.items():
        value = getattr(options, name)
        if value is not None and not value >= bound:
            raise ValueError(f"{name}: got {value}, expected {bound:g} or more")


def require_above(options: Any, **bounds: float) -> None:
    """Refuse options that are not above a bound.

    Raises:
        ValueError: names the first.
    """
    for name, bound in bounds.items():
        if not getattr(options, name) > bound:
            raise ValueError(f"{name}: got {getattr(options, name)}, expected above {bound:g}")
