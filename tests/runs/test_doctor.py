"""The report on packages and machine, against the installed metadata and given versions."""

import os
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import pytest
import torch

from mgd_ssl.runs.doctor import machine, packages, report, split

REQUIREMENTS = ["torch>=2.11", "timm>=1.0; extra == 'timm'", "ruff; extra == 'dev'"]


def versions(**known: str) -> Callable[[str], str]:
    def look_up(name: str) -> str:
        if name not in known:
            raise PackageNotFoundError(name)
        return known[name]

    return look_up


def test_packages_are_needed_optional_or_for_development() -> None:
    needed, optional = split(REQUIREMENTS)
    assert [r.name for r in needed] == ["torch"]
    assert [r.name for r in optional] == ["timm"]


def test_a_missing_package_comes_with_the_command_that_adds_it() -> None:
    lines = list(report(REQUIREMENTS, versions(torch="2.11.0+cpu")))
    found = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert found["torch"].split() == ["torch", "2.11.0+cpu"]
    assert f"missing; {sys.executable} -m pip install 'timm>=1.0'" in found["timm"]
    assert "ruff" not in found


def test_an_old_package_is_named_with_the_expected_version() -> None:
    (line,) = packages(split(["torch>=2.11"])[0], versions(torch="2.9.1"))
    assert "2.9.1, expected >=2.11" in line and "--upgrade 'torch>=2.11'" in line


def test_every_dependency_of_this_project_is_listed_with_its_version() -> None:
    text = "\n".join(report())
    for name in ("torch", "torchvision", "ortools", "faiss-cpu", "kornia", "timm", "umap-learn"):
        assert f"\n  {name} " in text
    assert f" {version('torch')}\n" in text


def test_the_machine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (3 * 2**29, 2**31))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    lines = {line.split()[0]: line for line in machine()}
    assert lines["cuda:0"].endswith("a GPU, 1.5 GiB of 2.0 GiB free")
    assert lines["disk"].endswith(f"in {os.getcwd()}")
    assert {"cores", "threads", "memory", "/dev/shm"} <= lines.keys()
