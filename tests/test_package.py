"""The wheel and the source distribution hold the package, whole, and install into a new place."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = """
import sys
from setuptools import build_meta
out = sys.argv[1]  # building changes it
build_meta.build_wheel(out)
build_meta.build_sdist(out)
"""
BESIDE = ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff",
          "CONTRIBUTING.md")  # fmt: skip
DATA = ("sample/fashion_mnist.npz", "sample/teacher.pth.tar", "known_networks.json",
        "templates/report.html.j2", "py.typed")  # fmt: skip


def run(*command: str, cwd: Path, path: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={"PYTHONPATH": path, "PATH": "", "HOME": str(cwd)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def package_files(root: Path) -> set[str]:
    files = (p for p in (root / "mgd_ssl").rglob("*") if p.is_file() and p.suffix != ".pyc")
    return {p.relative_to(root).as_posix() for p in files}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both, built from a copy, since building writes into the source tree."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in BESIDE:
        shutil.copy(ROOT / name, source / name)
    caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "mgd_ssl", source / "mgd_ssl", ignore=caches)
    (source / "tests").mkdir()
    shutil.copy(__file__, source / "tests/test_package.py")
    run("-c", BUILD, str(out), cwd=source)
    return out


def test_a_wheel_holds_every_file_of_the_package_and_no_test(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == package_files(ROOT)
    for name in DATA:
        assert any(found.endswith(name) for found in names)


def test_a_source_distribution_holds_what_it_takes_to_build_and_no_test(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {m.name.partition("/")[2] for m in file.getmembers() if m.isfile()}
    own = {name for name in names if name.startswith("mgd_ssl/")}
    assert own == package_files(ROOT)
    assert {*BESIDE} <= names
    assert not any(name.startswith("tests") for name in names)


def test_an_installed_wheel_runs_from_its_own_place(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    target = tmp_path / "site"
    install = ["install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    run("-m", "pip", *install, str(wheel), cwd=tmp_path)
    where = "import mgd_ssl; print(mgd_ssl.__file__, mgd_ssl.__version__)"
    place, version = run("-c", where, cwd=tmp_path, path=str(target)).split()
    assert Path(place) == target / "mgd_ssl/__init__.py"
    said = run("-m", "mgd_ssl", "--version", cwd=tmp_path, path=str(target))
    assert said == f"mgd_ssl {version}\n"
    assert (target / "bin/mgd-ssl").is_file()
