"""Screens that lack characters and readers that go away."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRINTS = r"""
import sys
from mgd_ssl.streams import tolerant_streams
with tolerant_streams():
    print("4\u00d74 \u2013 caf\u00e9 \udcff.png")
"""


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PYTHONIOENCODING": "ascii"}, b"4x4 - caf\\xe9 \\udcff.png\n"),
        ({"PYTHONIOENCODING": "cp1252"}, b"4\xd74 \x96 caf\xe9 \\udcff.png\n"),
        ({"PYTHONIOENCODING": "utf-8"}, "4×4 – café \\udcff.png\n".encode()),
        (
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            b"4x4 - caf\\xe9 \\udcff.png\n",
        ),
    ],
)
def test_characters_that_the_screen_lacks_are_spelt(
    environment: dict[str, str], expected: bytes
) -> None:
    done = run("-c", PRINTS, **environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_ends_a_command_quietly(unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, "-m", "mgd_ssl", "--help"],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    _, said = process.communicate(timeout=60)
    assert said == b"" and process.returncode in (0, 141)


def test_the_package_and_each_command_run_as_modules() -> None:
    done = run("-m", "mgd_ssl", "--help")
    assert done.returncode == 0 and done.stdout.startswith(b"usage: mgd-ssl COMMAND")
    refused = run("-m", "mgd_ssl", "knn-evl")
    assert refused.returncode == 2 and b"did you mean knn-eval?" in refused.stderr
    for path in sorted((ROOT / "mgd_ssl" / "commands").glob("*.py")):
        text = path.read_text()
        if "\ndef main(" in text:
            assert 'if __name__ == "__main__":\n    raise SystemExit(main())' in text, path.name
