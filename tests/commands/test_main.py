"""``mgd-ssl`` without a command."""

import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from mgd_ssl.commands.main import COMMANDS, main


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_alone_it_lists_each_command_in_a_line(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ")]
    assert listed == list(COMMANDS) and max(map(len, lines)) <= 80


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.split() == ["mgd_ssl", version("mgd_ssl")]


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["--completion", shell]) == 0
    return capsys.readouterr().out


def test_completion_knows_every_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    printed = script("bash", capsys)
    assert all(f"{name!r}" in printed or f'"{name}"' in printed for name in COMMANDS)
    options = ("--teacher", "--knn-k", "--learning-rates", "--label-fraction", "--moco-k")
    assert all(option in printed for option in options)
    assert main(["--completion", "tcsh"]) == 2 and "bash, zsh, fish" in capsys.readouterr().err


ASK = {  # how a shell is asked for what Tab would offer
    "bash": """ask() {{
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _tyro_mgd_ssl; printf '%s\\n' "${{COMPREPLY[@]}}"
}}""",
    "zsh": """compdef() {{ print "registered $2" }}
_describe() {{ print -l -- ${{(P)2}} }}
_files() {{ print -l -- ${{words[-1]}}* }}
ask() {{ words=("$@") CURRENT=$#; _tyro_mgd_ssl }}""",
    "fish": "function ask; complete -C (string join -- ' ' $argv); end",
}


@pytest.mark.parametrize("shell", ASK)
def test_tab_completes_commands_options_and_files(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "photos").mkdir()
    words = ("pack --qual", "pac", "pack pho", "pretrain --teacher-siz")  # whose help has two lines
    asked = [f"ask mgd-ssl {each}" for each in words]
    file = tmp_path / "asked"
    file.write_text("\n".join([ASK[shell].format(), script(shell, capsys), *asked]))
    done = subprocess.run([shell, file], cwd=tmp_path, capture_output=True, text=True, check=False)
    offered = [re.split(r"[\t:]", line)[0].rstrip("/") for line in done.stdout.splitlines()]
    registered = ["registered mgd-ssl"] if shell == "zsh" else []
    assert offered == [*registered, "--quality", "pack", "photos", "--teacher-size"], done.stderr
