"""The precision of the networks, where the settings leave it to the device."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import torch

from mgd_ssl.settings.options import ComputeOptions

Options = TypeVar("Options", bound=ComputeOptions)
# Values of oneDNN's variable by which a user keeps it from instructions for bf16.
WITHOUT_BF16 = {
    *("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2"),
    *("AVX512_CORE", "AVX512_CORE_VNNI"),
}


def find_precision(options: Options, accelerator: str) -> Options:
    """The options with a precision in the place of "auto".

    Args:
        options: of the device.
        accelerator: "cuda" or "cpu".

    Returns:
        bf16 and channels-last where the device computes in bf16, else float32. Other precisions
        stay, and so does the layout beside them.

    Raises:
        ValueError: fp16 on a CPU.
    """
    if options.precision == "fp16" and accelerator == "cpu":
        raise ValueError(
            "precision: got fp16 on a CPU, whose autocast computes in bf16; expected a GPU, or "
            "--precision bf16 or 32"
        )
    if options.precision != "auto":
        return options
    if _gpu_has_bf16() if accelerator == "cuda" else _cpu_has_bf16():
        return replace(options, precision="bf16", channels_last=True)
    return replace(options, precision="32")


def _gpu_has_bf16() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def _cpu_has_bf16(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the CPU has AVX512-BF16 or AMX, and oneDNN may use it (`ONEDNN_MAX_CPU_ISA`)."""
    most = environment.get("ONEDNN_MAX_CPU_ISA") or environment.get("DNNL_MAX_CPU_ISA") or "ALL"
    capabilities = getattr(torch.cpu, "get_capabilities", dict)  # older versions of torch lack it
    has: dict[str, bool] = capabilities()
    return most.upper() not in WITHOUT_BF16 and bool(has.get("avx512_bf16") or has.get("amx_bf16"))
