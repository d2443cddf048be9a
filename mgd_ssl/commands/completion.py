"""``mgd-ssl --completion SHELL``: a script that completes commands and options on Tab."""

import contextlib
import importlib
import io
import re
from typing import Annotated, Any, Union

import tyro
from tyro.conf import HelptextFromCommentsOff, OmitArgPrefixes, OmitSubcommandPrefixes

from mgd_ssl.commands.main import COMMANDS, module_of
from mgd_ssl.settings.settings import Settings

SHELLS = ("bash", "zsh", "fish")
ALONE = "for completion in completions:"
OR_FILES = 'for completion in completions or ["__TYRO_COMPLETE_FILES__"]:'
# What is changed in tyro's scripts. A word that is no option or command is the name of a file, as
# DATA is. zsh's script is for a folder of fpath; under eval it has to register itself.
CHANGES = {
    "bash": {ALONE: OR_FILES, 'compgen -f -- "$cur"': 'compgen -f -- "${COMP_WORDS[COMP_CWORD]}"'},
    "zsh": {ALONE: OR_FILES, '\n_tyro_mgd_ssl "$@"': "\ncompdef _tyro_mgd_ssl mgd-ssl"},
    "fish": {"complete --no-files ": "complete "},
}
SPEC = re.compile(r"^COMPLETION_SPEC = .*$", re.MULTILINE)  # commands and options, on one line


def print_completion(shell: str) -> None:
    """Print the script for a shell."""
    script = SPEC.sub(in_one_line, script_of(shell))
    for tyros, ours in CHANGES[shell].items():
        script = script.replace(tyros, ours)
    print(script)


def script_of(shell: str) -> str:
    """Tyro's script for a shell."""
    subcommands = tuple(
        Annotated[
            settings_of(command),
            tyro.conf.subcommand(
                command, default=settings_of(command).widest(), description=description
            ),
        ]
        for command, description in COMMANDS.items()
    )
    every: Any = Union[subcommands]  # noqa: UP007  # a tuple of types
    with contextlib.redirect_stdout(io.StringIO()) as script, contextlib.suppress(SystemExit):
        tyro.cli(
            every,
            prog="mgd-ssl",
            args=["--tyro-print-completion", shell],
            config=(OmitArgPrefixes, OmitSubcommandPrefixes, HelptextFromCommentsOff),
        )
    return script.getvalue()


def in_one_line(spec: re.Match[str]) -> str:
    """Descriptions without line breaks, as the scripts read one candidate from each line."""
    return spec[0].replace(r"\n", " ")


def settings_of(command: str) -> type[Settings]:
    """The settings that a command's module reads its command line into."""
    module = importlib.import_module(module_of(command))
    found = (v for v in vars(module).values() if isinstance(v, type) and v is not Settings)
    return next(each for each in found if issubclass(each, Settings))
