"""README and docs/: command lines parse, options and links exist, Python compiles, figures agree.

Nothing is trained and no network is built.
"""

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest

from mgd_ssl.commands.main import COMMANDS
from mgd_ssl.settings import run
from mgd_ssl.settings.config_file import leaves
from mgd_ssl.settings.other_names import OTHER_NAMES
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.settings import Settings
from mgd_ssl.settings.words import FORMER, FORMER_FLAGS, aliases

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "tools"))
from blocks import blocks_of, command_lines, pages, program  # noqa: E402
from command_pages import FOLDER, config_of  # noqa: E402
from results_figure import draw, read, tables_of  # noqa: E402

SCRIPTS = {f"{name.replace('-', '_')}.py": name for name in ("pretrain", "knn-eval", "linear-eval")}
FOLDERS = ("recipes", "benchmarks", "examples", "docs/tools")
OTHER_TOOLS = ("make", "pip", "srun")
# Options of other programs that the text names.
FOREIGN = {"--shm-size", "--signal", "--nproc-per-node", "--constraint", "--editable"}
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
LINK = re.compile(r"\]\(([^)#\s]+)")
LIST_OF_PAGES = [page for page in pages() if page != "docs/log.md"]  # it tells of what was


@pytest.fixture(autouse=True)
def _without_files(monkeypatch, tmp_path):
    """The files that examples name are not there, and tell nothing of sizes and packages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "check_installed", lambda names: None)
    for name in COMMANDS:
        monkeypatch.setattr(config_of(name), "told", classmethod(lambda cls, said: {}))


def test_every_command_line_parses():
    lines = {
        tuple(words): f"{page}, block at line {block.line}"
        for page in LIST_OF_PAGES
        for block in blocks_of(page)
        for words in command_lines(block)
    }
    assert len(lines) > 50
    wrong = [
        f"{place}: {words}: {said}" for words, place in lines.items() if (said := complaint(words))
    ]
    assert not wrong, "\n".join(wrong)


def complaint(words):
    """What the program would say of its arguments; empty where it takes them."""
    name, arguments = program(words)
    if name in OTHER_TOOLS:
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return "" if name != "make" or arguments[0] in targets else "no such target"
    if name.partition("/")[0] in ("recipes", "benchmarks", "examples", "docs"):
        return complaint_of_script(ROOT / name, arguments)
    command = name.removeprefix("mgd-ssl ") if name.startswith("mgd-ssl ") else SCRIPTS.get(name)
    if command not in COMMANDS:
        return "no such command"
    return complaint_of_parser(command, arguments)


def complaint_of_parser(command, arguments):
    try:
        settings = parse(config_of(command), command, arguments)
    except (ValueError, SystemExit) as error:
        return str(error) if isinstance(error, ValueError) or error.code else ""
    return "" if isinstance(settings, Settings) else "no settings"


def complaint_of_script(script, arguments):
    if not script.is_file():
        return "no such script"
    known = options_in_sources(script.parent)
    return ", ".join(
        word for word in arguments if OPTION.match(word) and word.partition("=")[0] not in known
    )


def options_in_sources(folder):
    """The options that the scripts of a folder declare."""
    text = "".join(path.read_text() for path in folder.glob("*.py"))
    return set(re.findall(r"[\"'](--[a-z][\w-]*)[\"']", text)) | {"-j", "--help"}


WRONG = (
    "python pretrain.py photos --teacher t.pth --learning-rate 1",
    "mgd-ssl nothing",
    "python recipes/demo.py --nothing",
    "make nothing",
)


def test_a_command_line_that_is_wrong_is_found():
    assert all(complaint(line.split()) for line in WRONG)


@pytest.fixture(scope="module")
def known():
    """Every option of every command, script and earlier version."""
    names = {"--help", "--help-all", "--config", "--version", *FORMER, *FORMER_FLAGS, *FOREIGN}
    for command in COMMANDS:
        for name, hint in leaves(config_of(command).widest()):
            option = name.replace("_", "-")
            names |= {f"--{option}", f"--no-{option}", *aliases(hint)}
    for folder in FOLDERS:
        names |= options_in_sources(ROOT / folder)
    return names


@pytest.mark.parametrize("page", LIST_OF_PAGES)
def test_every_option_in_the_text_exists(page, known):
    text = (ROOT / page).read_text()
    if page.endswith("coming_from.md"):  # the first cell of a row is another project's
        known = known | {f"--{n}" for names in OTHER_NAMES.values() for n in names.split()}
        text = re.sub(r"^\| .*? \| (?!here)", "", text, flags=re.MULTILINE)
    for block in blocks_of(page):
        text = text.replace(block.text, "")
    code = " ".join(re.findall(r"`([^`\n]+)`", text))
    unknown = {o.replace("_", "-") for o in OPTION.findall(code)} - known
    assert not unknown, f"{page}: {', '.join(sorted(unknown))}: no such option"


@pytest.mark.parametrize("page", LIST_OF_PAGES)
def test_every_relative_link_leads_to_a_file(page):
    generated = {ROOT / "docs" / FOLDER / f"{name}.md" for name in (*COMMANDS, "index")}
    text = re.sub(r"`[^`\n]*`", "", (ROOT / page).read_text())
    targets = [link for link in LINK.findall(text) if ":" not in link]
    paths = {link: ((ROOT / page).parent / link).resolve() for link in targets}
    assert not [link for link, path in paths.items() if not path.exists() and path not in generated]


@pytest.mark.parametrize("page", LIST_OF_PAGES)
def test_no_page_is_drawn_by_a_script_that_the_site_would_load(page):
    assert "mermaid" not in {block.head for block in blocks_of(page)}


def python_blocks():
    found = [block for page in LIST_OF_PAGES for block in blocks_of(page)]
    return [b for b in found if b.head.startswith("python") and not b.is_of_others]


@pytest.mark.parametrize("block", python_blocks(), ids=lambda b: f"{b.page}:{b.line}")
def test_python_compiles_and_its_imports_resolve(block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)


def test_readme_is_short_and_its_table_is_that_of_the_results():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 120
    tables = tables_of("Every method at its defaults")
    pairs = [(row[2], row[3]) for rows in tables for row in rows]
    measured = {f"{knn.strip('* ')} / {linear.strip('* ')}" for knn, linear in pairs}
    shown = [
        cell.strip("* ")
        for row in re.findall(r"^\|.*±.*$", readme, re.M)
        for cell in row.split("|")
    ]
    figures = {cell for cell in shown if "±" in cell}
    assert figures
    assert figures <= measured


def test_the_figure_of_the_results_shows_the_table():
    drawn = (ROOT / "docs" / "images" / "results.svg").read_text()
    assert drawn == draw(*read()), "run: python docs/tools/results_figure.py"
    for bar in read()[1]:
        assert f"{bar.mean:.1f} ± {bar.spread:.1f}" in drawn
