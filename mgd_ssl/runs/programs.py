"""The commands for programs: the same recipes, options as arguments."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mgd_ssl import distributed
from mgd_ssl.runs import pretrain as runs
from mgd_ssl.settings.parsing import complete
from mgd_ssl.settings.pretrain import PretrainConfig


def pretrain(data: str | Path | Sequence[str | Path] | None = None, **options: Any) -> Path:
    """Pretrain a student as ``pretrain.py`` does; what is not given has that command's default.

    Args:
        data: images, one path or several, as DATA of the command line; None for the embedded
            images.
        options: of the command line, with underscores: ``teacher``, ``method``, ``arch``, ``lr``.

    Returns:
        The run's directory, which holds ``student.safetensors`` and ``checkpoints/last.pt``.

    Example:
        >>> run = pretrain("images", teacher="dinov2_vits14_pretrain.pth", arch="resnet18")
        >>> student, report = load_backbone(run)

    Raises:
        ValueError: an option that there is not, a network instead of its file or name, or as the
            command refuses.
    """
    for name, value in options.items():
        if isinstance(value, nn.Module):
            raise ValueError(
                f"{name}: got {type(value).__name__}, expected a file or a name; "
                "mgd_ssl.pair_networks distills networks of your own in your own loop"
            )
    run = runs.run(complete(PretrainConfig, **options, data=data))
    distributed.leave()  # as the command does
    return run
