"""What a pretraining run loads, and what docs/architecture.md says of the code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import ROOT, arguments

DOCUMENT = (ROOT / "docs" / "architecture.md").read_text()
RUN = """
import sys
from mgd_ssl.commands import pretrain
status = pretrain.main(sys.argv[1:])
print("LOADED", *sys.modules)
raise SystemExit(status)
"""
# Rooms of which a run loads these modules alone; of all other rooms, any.
LOADED = {
    "detection": set(),
    "reporting": set(),
    "builder": set(),
    "commands": {"failures", "pretrain", "signals", "terminal"},
    "evaluation": {
        *("accuracy", "collapse", "features", "health", "inputs", "knn"),
        *("online", "online_health", "retrieval"),
    },
    "losses": {"blocks", "moco"},
    "runs": {"image_data", "next_steps", "pretrain", "pretrain_evaluation", "pretrain_networks"},
    "tasks": {"pretraining", "task"},
}


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> list[str]:
    """Modules that a whole run of pretrain.py loads, of the default measurements."""
    out = tmp_path_factory.mktemp("loaded") / "run"
    words = arguments(out, teacher, "--epochs", "1", "--knn-every", "1", "--knn-bank", "64")
    ended = subprocess.run(
        [sys.executable, "-c", RUN, *words], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.rpartition("LOADED ")[2].split()


@pytest.mark.parametrize("room", LOADED)
def test_a_pretraining_run_loads_of_other_rooms_what_it_uses_alone(
    modules: list[str], room: str
) -> None:
    inside = f"mgd_ssl.{room}."
    found = {name.removeprefix(inside) for name in modules if name.startswith(inside)}
    assert found == LOADED[room]
    assert (f"mgd_ssl.{room}" in modules) == bool(found)


def test_a_pretraining_run_draws_no_pictures(modules: list[str]) -> None:
    assert "torch" in modules and {"matplotlib", "torchmetrics"}.isdisjoint(modules)


def test_the_reading_path_is_short() -> None:
    section = DOCUMENT.partition("## Reading path")[2].partition("## ")[0]
    files = [ROOT / name for name in re.findall(r"^\d\. `(.*?)`", section, re.MULTILINE)]
    assert 0 < len(files) <= 8
    assert sum(len(file.read_text().splitlines()) for file in files) <= 3000


@pytest.mark.parametrize("place", sorted(set(re.findall(r"`(mgd_ssl/\S+\.py: \w+)`", DOCUMENT))))
def test_what_the_document_names_is_where_it_says(place: str) -> None:
    file, name = place.split(": ")
    defined = set()
    for node in ast.parse((ROOT / file).read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
        defined |= {getattr(target, "name", getattr(target, "id", None)) for target in targets}
    assert name in defined


def test_the_document_names_every_room() -> None:
    rooms = {path.parent.name for path in (ROOT / "mgd_ssl").glob("*/__init__.py")}
    assert {name for name in rooms if f"`{name}/`" not in DOCUMENT} == set()


def words(file: Path) -> set[str]:
    """Names, attributes and texts in a file's code."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    found = {getattr(node, "id", getattr(node, "attr", None)) for node in nodes}
    found |= {node.name for node in nodes if isinstance(node, ast.alias)}
    texts = (node.value for node in nodes if isinstance(node, ast.Constant))
    return {word for word in (*found, *texts) if isinstance(word, str)}


def test_only_the_readers_of_networks_ask_whether_one_is_a_transformer() -> None:
    asked = {"VisionTransformer", "Eva", "cls_token", "class_token", "pos_embed", "patch_embed"}
    asked |= {"num_prefix_tokens", "dynamic_img_size", "forward_features"}
    found = {str(f.relative_to(ROOT)) for f in (ROOT / "mgd_ssl").rglob("*.py") if words(f) & asked}
    assert "mgd_ssl/models/tap_finder.py" in found
    assert {name for name in found if not name.startswith("mgd_ssl/models/")} == set()
