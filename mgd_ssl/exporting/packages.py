"""Optional packages that a file's kind needs."""

import importlib.util
import sys
from collections.abc import Mapping


def require_packages(option: str, kind: str, packages: Mapping[str, str]) -> None:
    """Refuse to start without them.

    Args:
        option: that chose the kind.
        kind: what needs them, in words.
        packages: module -> requirement, as pip takes it.

    Raises:
        ValueError: names what is missing, and the command that adds it.
    """
    missing = [module for module in packages if importlib.util.find_spec(module) is None]
    if missing:
        wanted = " ".join(f"'{requirement}'" for requirement in packages.values())
        raise ValueError(
            f"{option}: {kind} needs {', '.join(packages)}; missing: {', '.join(missing)}; add "
            f"what is missing: {sys.executable} -m pip install {wanted}"
        )
