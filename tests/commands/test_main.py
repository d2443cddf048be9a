"""``mgd-ssl`` without a command."""

import subprocess
from importlib.metadata import version

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


def test_completion_knows_every_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["--completion", "bash"])
    assert not ending.value.code
    script = capsys.readouterr().out
    assert all(f"{name!r}" in script or f'"{name}"' in script for name in COMMANDS)
    options = ("--teacher", "--knn-k", "--learning-rates", "--label-fraction", "--moco-k")
    assert all(option in script for option in options)
    done = subprocess.run(["bash", "-n"], input=script, text=True, check=False)
    assert done.returncode == 0
    assert main(["--completion", "tcsh"]) == 2 and "bash, zsh, fish" in capsys.readouterr().err
