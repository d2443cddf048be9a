"""The precision that a device is found to compute in."""

from pathlib import Path

import pytest
import torch
from tiny_runs import arguments, read_last

from mgd_ssl.commands import pretrain
from mgd_ssl.settings.options import ComputeOptions, DeviceOptions
from mgd_ssl.training import precision
from mgd_ssl.training.devices import settled
from mgd_ssl.training.precision import find_precision


def hardware(monkeypatch: pytest.MonkeyPatch, **capabilities: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)


@pytest.mark.parametrize(
    ("capabilities", "found"),
    [
        ({}, "32"),
        ({"avx512_f": True, "avx512_vnni": True, "avx512_bf16": False}, "32"),
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
    ],
    ids=["none", "AVX512", "AVX512-BF16", "AMX"],
)
def test_a_cpu_is_asked(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], found: str
) -> None:
    hardware(monkeypatch, **capabilities)
    options = find_precision(DeviceOptions(threads=2), "cpu")
    assert options == DeviceOptions(
        threads=2, precision="bf16" if found == "bf16" else "32", channels_last=found == "bf16"
    )


@pytest.mark.parametrize(("most", "found"), [("avx512_core", "32"), ("AVX512_CORE_AMX", "bf16")])
def test_the_limit_of_onednn_is_kept(
    monkeypatch: pytest.MonkeyPatch, most: str, found: str
) -> None:
    hardware(monkeypatch, amx_bf16=True)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", most)
    assert find_precision(DeviceOptions(), "cpu").precision == found


def test_a_torch_that_cannot_tell_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    hardware(monkeypatch)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert find_precision(DeviceOptions(), "cpu").precision == "32"


@pytest.mark.parametrize("found", [False, True])
def test_a_gpu_is_asked(monkeypatch: pytest.MonkeyPatch, found: bool) -> None:
    monkeypatch.setattr(precision, "_gpu_has_bf16", lambda: found)
    options = find_precision(DeviceOptions(), "cuda")
    assert (options.precision, options.channels_last) == (("32", False), ("bf16", True))[found]


def test_what_is_said_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    hardware(monkeypatch, amx_bf16=True)
    for said in (DeviceOptions(precision="32"), DeviceOptions(precision="bf16"), ComputeOptions()):
        assert settled(said) == said  # evaluators compute in float32


def test_a_run_says_what_was_found_and_goes_on_in_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    teacher: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hardware(monkeypatch, amx_bf16=True)
    argv = arguments(tmp_path / "run", teacher, "--accelerator", "cpu", "--epochs", "1")
    assert pretrain.main(argv) == 0
    assert "bf16 and channels-last, which this device computes in" in capsys.readouterr().err
    device = read_last(tmp_path / "run")["config"]["device"]
    assert (device["precision"], device["channels_last"]) == ("bf16", True)
    assert pretrain.main([*argv, "--resume"]) == 0
    hardware(monkeypatch)
    assert pretrain.main([*argv, "--resume"]) == 1
    assert "--precision: bf16 in the checkpoint, 32 now" in capsys.readouterr().err


def test_fp16_on_a_cpu_is_refused_where_it_would_be_bf16() -> None:
    with pytest.raises(ValueError, match=r"got fp16 on a CPU, .* --precision bf16 or 32"):
        settled(DeviceOptions(accelerator="cpu", precision="fp16"))
    assert find_precision(DeviceOptions(precision="fp16"), "cuda").precision == "fp16"
