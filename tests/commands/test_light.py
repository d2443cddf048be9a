"""A command line is read, refused or explained before torch loads."""

import subprocess
import sys
from pathlib import Path

import pytest

from mgd_ssl.commands.main import COMMANDS

HEAVY = {
    "torch",
    "torchvision",
    "lightning_fabric",
    "kornia",
    "timm",
    "matplotlib",
    "faiss",
    "ortools",
}
LOADED = """
import sys
from mgd_ssl.commands.main import main
try:
    status = main(sys.argv[1:])
except SystemExit as ended:
    status = ended.code
print("LOADED", status, *(name for name in sys.modules if "." not in name))
"""


def run(*words: str) -> tuple[int, set[str], str]:
    """Status, top-level modules that were loaded, and what was said."""
    command = [sys.executable, "-c", LOADED, *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    said, _, loaded = ended.stdout.rpartition("LOADED ")
    status, *modules = loaded.split()
    return int(status), set(modules), said + ended.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_nothing_heavy(command: str) -> None:
    status, modules, said = run(command, "--help")
    assert status == 0 and "usage" in said.lower()
    assert not modules & HEAVY


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["pretrain", "d", "--lr", "ten"], "ten"),
        (["pretrain", "d", "--method", "simreg"], "method simreg: got no teacher"),
        (["classify", "--kd"], "got --kd without a teacher"),
        (["detect", "--levels", "c2", "c2"], "expected one or more, each once"),
        (["knn-eval", "t.pt", "--knn-t", "0"], "knn_t: got 0.0, expected above 0"),
    ],
)
def test_a_refusal_loads_nothing_heavy(tmp_path: Path, words: list[str], reason: str) -> None:
    status, modules, said = run(*words)
    assert status in (1, 2) and reason in " ".join(said.replace("│", " ").split())
    assert not modules & HEAVY
