"""The target that runs the commands of the documentation, on a page of its own."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "tools"))
import run_blocks  # noqa: E402
from blocks import blocks_of, pages  # noqa: E402

PAGE = """
```
python pretrain.py made -a x     # a comment
python knn_eval.py \\
    made
nonesuch pretrain.py made
```
```python
print(open("made").read())
assert 1 + 1 == 3
```
```python title="another project"
raise SystemExit(1)
```
```text
python nothing.py
```
"""


@pytest.fixture
def page(monkeypatch):
    blocks = blocks_of("page.md", PAGE)
    monkeypatch.setattr(run_blocks, "blocks_of", lambda page: blocks)
    monkeypatch.setitem(run_blocks.BEFORE, "page.md", ["echo > made"])
    monkeypatch.setitem(run_blocks.SMALL, "pretrain.py", "--epochs 1 --size 56")


def test_each_command_runs_and_a_failure_shows_its_end(page, tmp_path, capsys):
    (tmp_path / "pretrain.py").write_text("import sys; print(open(sys.argv[1]).read())")
    (tmp_path / "knn_eval.py").write_text("raise SystemExit('error: what, and the remedy')")
    found = list(run_blocks.run_page("page.md", tmp_path, dict(os.environ)))
    assert found == ["ran", "ran", "FAILED", "not run", "FAILED"]
    said = capsys.readouterr().out
    assert "page.md:3: python pretrain.py made -a x" in said
    assert "error: what, and the remedy" in said
    assert "nonesuch is not installed" in said
    assert "AssertionError" in said


def test_a_page_is_run_from_a_line_on(page, tmp_path, capsys):
    found = list(run_blocks.run_page("page.md:9", tmp_path, dict(os.environ)))
    assert found == ["ran", "FAILED"]
    assert "page.md, before: echo > made" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "run"),
    [
        ("python pretrain.py photos -a x  # words", "pretrain.py photos -a x --epochs 1 --size 56"),
        ("python pretrain.py photos --size 32", "pretrain.py photos --size 32 --epochs 1"),
        ("python pretrain.py --out a", "pretrain.py --out a --epochs 1"),
        ("python pretrain.py a --devices 8", "pretrain.py a --devices 2 --epochs 1 --size 56"),
    ],
)
def test_small_settings_leave_a_size_that_is_told(page, line, run):
    assert run_blocks.shrunk(line) == f"python {run}"


def test_every_command_of_the_pages_is_run_or_has_a_reason():
    lines = [(p, c) for p in pages() if p != "docs/log.md" for _, _, c in run_blocks.lines_of(p)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    reasons = [run_blocks.reason(page, command, path) for page, command in lines]
    assert len(lines) > 100
    assert reasons.count("") > len(lines) / 2
