"""What is installed, what is missing, and what the machine has.

Every package may be missing: nothing that needs torch is imported above.
"""

import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from mgd_ssl import process
from mgd_ssl.settings.doctor import DoctorConfig

PROJECT = "mgd_ssl"
# Optional packages that no extra names.
MORE = ("umap-learn; extra == 'umap'",)
USES = {
    "timm": "networks of timm",
    "datasets": "Parquet, Arrow, hf:NAME",
    "faster-coco-eval": "average precision",
    "onnx": "mgd-ssl export --to onnx",
    "onnxruntime": "mgd-ssl export --to onnx",
    "onnxscript": "mgd-ssl export --to onnx",
    "umap-learn": "mgd-ssl report --umap",
}
LEFT_OUT = "dev"


def run(config: DoctorConfig) -> None:
    """Print the report.

    Args:
        config: parsed options.
    """
    print("\n".join(report()))


def report(
    requirements: Sequence[str] | None = None, version: Callable[[str], str] = metadata.version
) -> Iterator[str]:
    """The lines of the report.

    Args:
        requirements: of this project, as its metadata states them; None: read from there.
        version: gives a package's version, or raises `PackageNotFoundError`.
    """
    yield f"python      {platform.python_version()} at {sys.executable}, {platform.platform()}"
    if requirements is None:
        try:
            requirements = metadata.requires(PROJECT) or ()
            yield f"{PROJECT}     {version(PROJECT)}"
        except metadata.PackageNotFoundError:
            requirements = ()
            yield f"{PROJECT}     not installed; in its folder: {_pip('--editable .')}"
    needed, optional = split([*requirements, *MORE])
    yield from ["", "Packages", *(f"  {line}" for line in packages(needed, version))]
    yield from ["", "Optional packages", *(f"  {line}" for line in packages(optional, version))]
    yield from ["", "Machine", *(f"  {line}" for line in machine())]


def split(requirements: Iterable[str]) -> tuple[list[Requirement], list[Requirement]]:
    """The packages that are always needed, and those of the extras; those for development in none.

    Args:
        requirements: as a package's metadata states them.
    """
    needed, optional = list[Requirement](), list[Requirement]()
    for requirement in map(Requirement, requirements):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needed.append(requirement)
        elif not requirement.marker.evaluate({"extra": LEFT_OUT}):
            optional.append(requirement)
    return needed, optional


def packages(
    requirements: Iterable[Requirement], version: Callable[[str], str] = metadata.version
) -> Iterator[str]:
    """One line per package: its version, or what is wrong and the command that mends it."""
    for requirement in requirements:
        name = requirement.name
        wanted = f"{name}{requirement.specifier}"
        try:
            found = version(name)
        except metadata.PackageNotFoundError:
            found = f"missing; {_pip(repr(wanted))}"
        else:
            if not requirement.specifier.contains(found, prereleases=True):
                found += f", expected {requirement.specifier}; {_pip(f'--upgrade {wanted!r}')}"
        use = f"  ({USES[name]})" if name in USES else ""
        yield f"{name:<18}{found}{use}"


def _pip(what: str) -> str:
    return f"{sys.executable} -m pip install {what}"


def machine() -> Iterator[str]:
    """Cores, threads, memory, shared memory, disk and devices."""
    yield f"cores       {process.cores()} for this process"
    try:
        import torch

        from mgd_ssl.data.packing_size import free_bytes
        from mgd_ssl.data.workers import REMEDY, SHARED_MEMORY, free_shared_memory
        from mgd_ssl.training.memory_check import available, gib
    except (ImportError, OSError) as error:  # OSError: a library of its own is missing
        yield f"not measured: {error}"
        return
    yield f"threads     {torch.get_num_threads()} of torch (--threads)"
    yield f"memory      {gib(available(torch.device('cpu')))} free"
    shared = free_shared_memory()
    low = f"; {REMEDY}" if shared < 2**30 else ""
    yield f"{SHARED_MEMORY!s:<12}{gib(None if shared == float('inf') else shared)} free{low}"
    yield f"disk        {gib(free_bytes(Path.cwd()))} free in {Path.cwd()}"
    yield from _devices()


def _devices() -> Iterator[str]:
    import torch

    from mgd_ssl.settings.options import DeviceOptions
    from mgd_ssl.training.devices import settled
    from mgd_ssl.training.memory_check import gib

    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield f"{f'cuda:{index}':<12}{name}, {gib(free)} of {gib(total)} free"
    yield f"precision   {settled(DeviceOptions()).precision} of training (--precision)"
    if not torch.cuda.device_count():
        built = torch.version.cuda
        why = "no GPU found" if built else "this torch is built without CUDA"
        yield f"cuda        none: {why}; the CPU is used"
    if torch.backends.mps.is_available():
        yield "mps         not used: it lacks float64"
