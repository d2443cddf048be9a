"""Cores, threads that sleep, memory that is kept."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mgd_ssl import process

PLAIN = ("OMP_", "GOMP_", "MALLOC_", "GLIBC_")


def run_plainly(code: str, *, first: str = "import mgd_ssl.commands") -> str:
    """What Python code prints in a process whose user set nothing of threads and memory."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(PLAIN)}
    command = [sys.executable, "-c", f"{first}\n{code}"]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def control_group(root: Path, path: str, **files: str) -> Path:
    """A control group's folder, and the file that says which group a process is of."""
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("of", "files", "expected"),
    [
        ("0::/\n", {"cpu__max": "200000 100000\n"}, 2.0),
        ("0::/\n", {"cpu__max": "max 100000\n"}, math.inf),
        ("0::/job/step\n", {"cpu__max": "150000 100000\n"}, 1.5),  # granted to a group above
        ("4:memory:/\n0::/\n", {}, math.inf),
    ],
)
def test_cores_that_a_control_group_grants(tmp_path, of, files, expected):
    groups = tmp_path / "groups"
    groups.write_text(of)
    control_group(tmp_path / "fs", "job/step" if "step" in of else ".")
    control_group(tmp_path / "fs", "job" if "step" in of else ".", **files)
    assert process.cpu_quota(tmp_path / "fs", groups) == expected


def test_cores_that_a_control_group_of_version_1_grants(tmp_path):
    groups = tmp_path / "groups"
    groups.write_text("5:devices:/box\n2:cpu,cpuacct:/box\n")
    files = {"cpu__cfs_quota_us": "300000\n", "cpu__cfs_period_us": "100000\n"}
    control_group(tmp_path / "fs", "cpu/box", **files)
    assert process.cpu_quota(tmp_path / "fs", groups) == 3.0
    (tmp_path / "fs/cpu/box/cpu.cfs_quota_us").write_text("-1\n")
    assert process.cpu_quota(tmp_path / "fs", groups) == math.inf


def test_cores_are_those_of_the_affinity_and_at_least_one(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    monkeypatch.setattr(process, "cpu_quota", lambda: math.inf)
    assert process.cores() == 3
    monkeypatch.setattr(process, "cpu_quota", lambda: 0.5)
    assert process.cores() == 1


def test_waiting_threads_sleep_unless_the_user_decided():
    fresh: dict[str, str] = {}
    process.let_waiting_threads_sleep(fresh)
    assert fresh == {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
    for own in ({"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "5000"}):
        kept = dict(own)
        process.let_waiting_threads_sleep(kept)
        assert kept == own


def test_every_command_sets_it_before_torch_loads():
    code = "import os, sys; print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"
    assert run_plainly(code) == "False passive"


STEPS = """
import resource
def step():
    kept = [b"x" * (i * 2**20) for i in (36, 40, 44)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5): before = step()
for _ in range(5): after = step()
print(after - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_memory_that_a_step_gives_back_is_not_asked_of_the_kernel_again():
    """120 MiB a step are 30,720 pages, which the kernel zeroes anew at each step, or at none."""
    if run_plainly("print(process.keep_memory({}))", first="from mgd_ssl import process") != "True":
        pytest.skip("not glibc")
    assert int(run_plainly(STEPS, first="")) > 5 * 30720 / 2
    assert int(run_plainly(STEPS)) < 5 * 30720 / 10


def test_an_allocator_that_the_user_set_is_left_alone():
    assert not process.keep_memory({"MALLOC_ARENA_MAX": "2"})
    assert not process.keep_memory({"GLIBC_TUNABLES": "glibc.malloc.mmap_max=4"})
