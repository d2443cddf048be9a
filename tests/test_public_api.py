"""The names that programs import, and a loop of one's own around them."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from test_resume import differences
from tiny_runs import arguments, read_last
from torch import nn

import mgd_ssl
from mgd_ssl.commands import pretrain
from mgd_ssl.settings.config_file import as_given, leaves
from mgd_ssl.settings.pretrain import PretrainConfig

ROOT = Path(__file__).parents[1]


def test_the_package_offers_its_names_and_loads_torch_only_for_them() -> None:
    code = "import sys, mgd_ssl; dir(mgd_ssl); print(mgd_ssl.__version__, 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, loaded = said.stdout.split()
    assert version[0].isdigit() and loaded == "False"
    for name in mgd_ssl.__all__:
        assert getattr(mgd_ssl, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        mgd_ssl.nothing  # noqa: B018
    assert (ROOT / "mgd_ssl" / "py.typed").exists()


def test_a_program_pretrains_to_the_commands_bits(tmp_path: Path, teacher: Path) -> None:
    argv = arguments(tmp_path / "command", teacher, "--method", "mgd-plus", "--epochs", "1")
    assert pretrain.main(argv) == 0
    run = mgd_ssl.pretrain(
        teacher=str(teacher),
        out=str(tmp_path / "program"),
        method="mgd-plus",
        **options_of(argv),
    )
    left, right = read_last(run), read_last(tmp_path / "command")
    assert differences(left["state_dict"], right["state_dict"]) == []
    with pytest.raises(ValueError, match="learning_rate: no option"):
        mgd_ssl.pretrain(learning_rate=0.1)


def test_every_option_that_is_a_path_may_be_given_as_text() -> None:
    options = dict(leaves(PretrainConfig.widest()))
    paths = [name for name, hint in options.items() if Path in (hint, *get_args(hint))]
    assert {"teacher", "teacher_cache", "student_weights", "eval_data", "out"} <= {*paths}
    for name in paths:
        assert as_given(name, options[name], "a/b") == Path("a/b")
    assert options["data"] not in (Path, Path | None)  # `places` reads it


def test_networks_in_place_of_files_are_refused_with_the_way_to_distill_them() -> None:
    with pytest.raises(ValueError, match=r"teacher: got Linear, expected a file.*pair_networks"):
        mgd_ssl.pretrain(teacher=nn.Linear(3, 2))


def test_a_network_without_maps_names_the_argument_that_says_them() -> None:
    student = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 4))
    with pytest.raises(ValueError, match=r"with the argument taps: NAME=module\.path"):
        mgd_ssl.pair_networks(mgd_ssl.create_backbone("resnet18", width=0.125), student, 64)


def options_of(argv: list[str]) -> dict[str, object]:
    """What `arguments` says, as a program says it."""
    from mgd_ssl.settings.parsing import parse
    from mgd_ssl.settings.pretrain import PretrainConfig

    config = parse(PretrainConfig, "x", argv)
    network, optim, loader, mgd = config.network, config.optim, config.loader, config.mgd
    names = {
        network: ("arch", "width", "stem", "stem_stride"),
        optim: ("batch_size", "epochs", "lr"),
        loader: ("limit", "size", "workers"),
        mgd: ("mgd_update_images",),
        config.evaluation: ("knn_every", "knn_bank", "health_every", "health_images"),
        config.objective: ("bn_splits",),
        config: ("print_freq", "save_every", "seed"),
    }
    return {name: getattr(section, name) for section, some in names.items() for name in some}


def test_a_pair_of_networks_learns_in_a_loop_of_ones_own() -> None:
    torch.manual_seed(0)
    teacher = mgd_ssl.create_backbone("resnet18", width=0.25)
    student = mgd_ssl.create_backbone("resnet18", width=0.125)
    pair = mgd_ssl.pair_networks(teacher, student, 64)
    batches = [torch.rand(8, 3, 64, 64) for _ in range(2)]
    pair.solve(iter(batches))
    before = [b.clone() for b in student.buffers()]
    assert pair.weigh(batches, start=2.0) == pair.distiller.scales
    assert all(map(torch.equal, before, student.buffers()))  # a look moves no statistics
    optimizer = torch.optim.AdamW(pair.parameters(), 1e-2)
    totals = []
    for _ in range(8):
        losses, output, target = pair(batches[0])
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total))
    assert totals[0] == pytest.approx(8, rel=0.3) and totals[-1] < 0.8 * totals[0]
    assert (output.shape[1], target.shape[1]) == (64, 128)
    assert all(p.grad is None for p in teacher.parameters())
    assert isinstance(teacher, nn.Module) and not teacher.training


def test_the_example_runs() -> None:
    command = [sys.executable, "examples/compose.py", "--steps", "2"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "kNN before" in ended.stdout and "step 0: matching/layer1" in ended.stdout
    assert len((ROOT / "examples" / "compose.py").read_text().splitlines()) < 100
