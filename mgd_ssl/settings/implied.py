"""Entries of a config file that follow from its others, where the command line chooses anew."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

Recipe = Callable[[Mapping[str, Any]], Mapping[str, Any]]  # options given -> all options


def replaced_entries(
    filed: Mapping[str, Any], words: Mapping[str, Any], recipe: Recipe
) -> set[str]:
    """Entries of a file that give way to the defaults of what the command line chooses.

    A run's config.yaml holds every option. Over that of ``mgd-plus``, ``--method simreg`` means
    simreg as it is: entries that were the defaults of ``mgd-plus`` become those of simreg, and
    what its user had chosen otherwise stays. Where the words change no default, nothing gives way.

    Args:
        filed: option -> value, those of the file.
        words: option -> value, those of the command line.
        recipe: from the options given to all options, the others by default.
    """
    implied = {name for name in filed if _follows(name, filed, recipe)}
    chosen = {name: value for name, value in filed.items() if name not in implied}
    before, now = recipe(chosen), recipe({**chosen, **words})
    return {
        name
        for name in implied - set(words)
        if filed[name] == before.get(name) and before.get(name) != now.get(name)
    }


def _follows(name: str, filed: Mapping[str, Any], recipe: Recipe) -> bool:
    """Whether an option of a file is what it would be by default beside the others."""
    others = {other: value for other, value in filed.items() if other != name}
    return bool(recipe(others).get(name) == filed[name])


def without(content: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The entries of a file, in their sections, but for some."""
    return {
        name: without(value, names) if isinstance(value, Mapping) else value
        for name, value in content.items()
        if isinstance(value, Mapping) or name not in names
    }
