"""``mgd-ssl --completion SHELL``: a script that completes commands and options on Tab."""

import importlib
from typing import Annotated, Any, Union

import tyro
from tyro.conf import HelptextFromCommentsOff, OmitArgPrefixes, OmitSubcommandPrefixes

from mgd_ssl.commands.main import COMMANDS, module_of
from mgd_ssl.settings.settings import Settings

SHELLS = ("bash", "zsh", "fish")


def print_completion(shell: str) -> None:
    """Print the script for a shell; it ends the program.

    Raises:
        SystemExit: when it is printed.
    """
    subcommands = tuple(
        Annotated[
            settings_of(command),
            tyro.conf.subcommand(command, default=settings_of(command).widest()),
        ]
        for command in COMMANDS
    )
    every: Any = Union[subcommands]  # noqa: UP007  # a tuple of types
    tyro.cli(
        every,
        prog="mgd-ssl",
        args=["--tyro-print-completion", shell],
        config=(OmitArgPrefixes, OmitSubcommandPrefixes, HelptextFromCommentsOff),
    )


def settings_of(command: str) -> type[Settings]:
    """The settings that a command's module reads its command line into."""
    module = importlib.import_module(module_of(command))
    found = (v for v in vars(module).values() if isinstance(v, type) and v is not Settings)
    return next(each for each in found if issubclass(each, Settings))
