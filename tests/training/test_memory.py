"""What a step needs against hand figures, and what a made-up machine has."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mgd_ssl.data import Shrink
from mgd_ssl.models import create_backbone
from mgd_ssl.settings.options import DeviceOptions
from mgd_ssl.tasks.task import Task
from mgd_ssl.training.devices import start_fabric
from mgd_ssl.training.memory import (
    IN_PASSING,
    LIBRARIES,
    SLACK,
    Activations,
    StepMemory,
    activations,
    matched_bytes,
    optimizer_bytes,
    step_memory,
)
from mgd_ssl.training.memory_check import available, check_fits

ON_CPU = DeviceOptions(accelerator="cpu")
CPU, MIB, GIB = torch.device("cpu"), 2**20, 2**30


def test_activations_of_one_image_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU(), nn.Conv2d(4, 2, 1))
    # saved: the image (3 channels), the ReLU's output, which is the next layer's input (4)
    found = activations(network, network, 8, CPU)
    assert found == Activations(saved=(3 + 4) * 64 * 4, largest=4 * 64 * 4, result=2 * 64 * 4)
    with torch.no_grad():
        found = activations(network, lambda x: ([network[0](x)], network(x)), 8, CPU)
    assert found == Activations(saved=0, largest=4 * 64 * 4, result=(4 + 2) * 64 * 4)


def test_measuring_leaves_the_network_and_the_generator_as_they_were() -> None:
    network = create_backbone("resnet18", width=0.125, stem="small").train()
    network.add_module("last", nn.Dropout())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    assert activations(network, network, 16, CPU).saved > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert all(m.training and not m._forward_hooks for m in network.modules())


def test_an_optimizer_needs_gradients_states_and_copies() -> None:
    weights = [nn.Parameter(torch.zeros(1000))]
    plain = torch.optim.SGD(weights, lr=0.1)
    assert optimizer_bytes(plain, 1) == 2 * 4000
    assert optimizer_bytes(torch.optim.SGD(weights, lr=0.1, momentum=0.9), 1) == 3 * 4000
    assert optimizer_bytes(torch.optim.AdamW(weights), 2) == 5 * 4000


def test_a_matching_holds_the_teachers_maps_and_twice_the_wider_of_both() -> None:
    student, teacher = Activations(0, 0, 10), Activations(0, 0, 40)
    assert matched_bytes(student, [teacher]) == 40 + 2 * 40


def test_a_step_is_the_fixed_part_and_its_images() -> None:
    assert StepMemory(1000, 10).bytes_for(50) == LIBRARIES + round(SLACK * 1500)


def machine(root: Path, free: int, group: str = "", **files: str) -> Path:
    """A machine of so many free bytes, this process in a control group with such files."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {free // 1024} kB\n")
    (root / "proc/self/cgroup").write_text(group)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("_of_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_free_memory_is_what_the_kernel_can_give(tmp_path: Path) -> None:
    assert available(CPU, machine(tmp_path / "a", 8 * GIB)) == 8 * GIB
    assert available(CPU, tmp_path / "nothing") is None
    assert available(torch.device("mps"), tmp_path / "a") is None
    assert 0 < (available(CPU) or 1) < 2**50


def test_a_control_group_may_allow_less(tmp_path: Path) -> None:
    limited = {
        "a__b__memory_of_max": "max\n",
        "a__memory_of_max": f"{4 * GIB}\n",
        "a__memory_of_current": f"{3 * GIB}\n",
        "a__memory_of_stat": f"anon 5\ninactive_file {GIB}\nactive_file 7\n",
    }
    second = machine(tmp_path / "v2", 8 * GIB, "0::/a/b\n", **limited)
    assert available(CPU, second) == 2 * GIB  # 4 - 3, and the cache of files can go
    first = machine(
        tmp_path / "v1",
        8 * GIB,
        "9:cpu:/x\n5:memory:/a\n",
        memory__a__memory_of_limit_in_bytes=str(5 * GIB),
        memory__a__memory_of_usage_in_bytes=str(2 * GIB),
        memory__a__memory_of_stat="total_inactive_file 0\n",
    )
    assert available(CPU, first) == 3 * GIB
    boundless = {
        "memory__memory_of_limit_in_bytes": str(2**63 - 4096),
        "memory__memory_of_usage_in_bytes": "0",
    }
    assert available(CPU, machine(tmp_path / "n", GIB, "5:memory:/\n", **boundless)) == GIB


NEED = StepMemory(fixed=0, per_image=100 * MIB)


def test_a_step_that_fits_well_is_not_spoken_of() -> None:
    assert check_fits(NEED, 64, 1, 20 * GIB, "here", True) == ""
    assert check_fits(NEED, 10**6, 1, None, "here", True) == ""


def test_a_step_that_may_fit_is_warned_of() -> None:
    warning = check_fits(NEED, 64, 1, 7 * GIB, "here", True)
    assert warning.startswith("batch_size: a step of 64 images needs about 6.9 GiB of memory, got ")
    assert warning.endswith("if it is killed, give -b 32 (3.5 GiB)")


def test_a_step_that_does_not_fit_is_refused_and_the_advice_holds() -> None:
    with pytest.raises(
        ValueError, match=r"of memory in each of 2 processes, got 2\.0 GiB"
    ) as refusal:
        check_fits(NEED, 256, 2, 2 * GIB, "here", False)
    said = str(refusal.value)
    assert said.endswith("give -b 16 (0.9 GiB), or for small pictures --size 32")
    assert check_fits(NEED, 16, 2, 2 * GIB, "here", False) == ""
    with pytest.raises(ValueError, match=r"expected more; take a smaller network \(-a, --width\)"):
        check_fits(NEED, 256, 1, 50 * MIB, "here", True)


def test_the_student_is_measured_on_views_as_it_is_given_them() -> None:
    """Views of 32 pixels, for a teacher; the student sees 16."""
    student = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU(), nn.Conv2d(4, 2, 1))
    task = Task(student, Shrink(16))
    need = step_memory(task, torch.optim.SGD(student.parameters()), start_fabric(ON_CPU), 32, 1)
    passing, pixels = IN_PASSING * 4 * 16 * 16 * 4, 4 * 3 * 32 * 32 * 4
    assert need.per_image == (3 + 4) * 16 * 16 * 4 + passing + pixels
