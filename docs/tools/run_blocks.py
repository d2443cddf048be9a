"""Run the commands and Python blocks of README and docs/, on small stand-ins (`stand_ins.py`).

    python docs/tools/run_blocks.py [PAGE[:LINE] ...]

Every page is run from top to bottom in a folder of its own, or from the block on that line. A line
is printed for each command and each block of Python, then a count. The exit status is 1 if one
failed.
"""

import argparse
import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

from blocks import ROOT, blocks_of, command_lines, pages, program

TIMEOUT = 900  # seconds a command
RUN = "-j 0 --epochs 1 --limit 16 -b 8 --size 56"
SMALL = {  # added to the options of a command, where the last one counts
    "pretrain.py": RUN,
    "knn_eval.py": "-j 0 --size 56",
    "linear_eval.py": "-j 0 --size 56 --epochs 1 -b 8",
    "mgd-ssl classify": "-j 0 --epochs 1 --limit 40 -b 2 --size 56",
    "mgd-ssl detect": "-j 0 --epochs 1 --limit 4 -b 2 --min-size 128 --max-size 128",
    "mgd-ssl cache": "-j 0 --views 1 --size 56",
    "mgd-ssl embed": "-j 0 --size 56",
    "recipes/imagenet_pretraining.py": "--epochs 1 --views 1 --size 56 -j 0 -- --limit 16 -b 8",
    "recipes/imagenet_classification.py": f"--alone -- {RUN}",  # the teacher has 1,000 classes
    "recipes/cub200.py": f"-- {RUN}",
    "benchmarks/matching.py": "--repeats 1",
    "benchmarks/knn.py": "--rounds 1 --bank 2000 --queries 200",
    "benchmarks/step.py": "--batch 8 --repeats 1",
    "benchmarks/methods.py": "--repeats 1",
    "benchmarks/pairs.py": "--only 0 --batch 2 --repeats 1",
    "benchmarks/optimizers.py": "--repeats 1",
    "benchmarks/decoding.py": "--images 4 --repeats 1",
    "benchmarks/teacher_cache.py": "--repeats 1",
    "benchmarks/data_index.py": "--images 20000 --shards 64 --ranks 8 --workers 2",
}
OTHERWISE = {  # what a page says -> what is run
    "--devices 8": "--devices 2",
    "--devices 4": "--devices 2",
    "--cache-views 7": "--cache-views 1 --size 56",
    "timm/vit_tiny_patch16_224": "timm/vit_tiny_patch16_224 --size 64",
    "--nproc_per_node=8": "--nproc_per_node=2",
    "checkpoint.pth --teacher-arch timm/": "regnety_032.pth --teacher-arch timm/",
    'out="runs/resnet18"': 'out="run", epochs=1, limit=16, batch_size=8, size=56, workers=0',
}
OF_A_SIZE = ("--size ", "--teacher runs/", "--teacher-cache")
NOT_RUN = {  # a page, a program, or words of a line
    "benchmarks/gpu.py": "it measures a GPU",
    "docs/results.md": "it measures for hours",
    "docs/results_earlier.md": "it measures for hours",
    "make env": "it makes the environment that this runs in",
    ".venv/bin": "it is the environment that this runs in",
    "make demo": "it is a target of its own",
    "recipes/make_teacher.py": "it writes the embedded teacher",
}
STUDENT = "python pretrain.py photos --teacher resnet50 -a resnet18 --method simreg --out"
ALONE = "python pretrain.py photos --method moco --out"
BEFORE = {  # what a page takes for granted
    "docs/export.md": [f"{STUDENT} RUN"],
    "docs/guides/classification.md": [f"{STUDENT} runs/resnet18"],
    "docs/guides/detection.md": [f"{STUDENT} runs/resnet18"],
    "docs/guides/evaluate.md": [f"{STUDENT} runs/resnet18"],
    "docs/guides/health.md": [
        f"{STUDENT} runs/resnet18-simreg",
        "cp -r runs/resnet18-simreg runs/resnet18; cp -r runs/resnet18 runs/mgd-0",
        f"{ALONE} runs/resnet18-moco -a resnet18",
        "cp -r runs/resnet18-moco runs/moco-0",
    ],
    "docs/guides/own_teacher.md": [f"{ALONE} runs/teacher -a resnet50"],
}
NAMES = {  # what Python of a page takes for granted
    "docs/reference/api.md": """
        import torch
        from torch.nn.functional import cross_entropy
        from torchvision.models import resnet18, resnet34

        t_net, s_net = resnet34(), resnet18()
        images, target = torch.rand(4, 3, 64, 64), torch.arange(4)
        train_loader = [(images, target)]
        """
}
Result = tuple[str, str]  # ran, FAILED or not run; and why


def lines_of(page: str, start: int = 1) -> Iterator[tuple[str, str, str]]:
    """Place, text as it stands in the page, and the command that is run for it."""
    for text in BEFORE.get(page, []):
        yield f"{page}, before", text, shrunk(text)
    for block in [block for block in blocks_of(page) if block.line >= start]:
        place = f"{page}:{block.line}"
        if block.head == "python" and not block.is_of_others:
            code = textwrap.dedent(NAMES.get(page, "")) + otherwise(block.text)
            yield place, block.text.splitlines()[-1], f"python - <<'CODE'\n{code}CODE"
        if command_lines(block):
            for line in block.text.replace("\\\n", " ").splitlines():
                yield place, line, shrunk(line)


def otherwise(text: str) -> str:
    """A text with `OTHERWISE` in it."""
    for said, run in OTHERWISE.items():
        text = text.replace(said, run)
    return text


def shrunk(line: str) -> str:
    """A command line of small settings; a size stays that the line or a file tells."""
    line = otherwise(re.sub(r"\s+#.*", "", line))
    name, arguments = program(line.split())
    more = "-j 0" if "--evaluate" in line else SMALL.get(name, "")
    if any(said in line for said in OF_A_SIZE) or (arguments or ["-"])[0].startswith("-"):
        more = re.sub(r" --size \d+", "", more)
    return f"{line} {more}".strip()


def reason(page: str, command: str, path: str) -> str:
    """Why a command is not run, with the programs of ``path``; empty if it is."""
    found = [why for said, why in NOT_RUN.items() if said == page or said in command]
    first = command.split()[0]
    missing = [] if shutil.which(first, path=path) else [f"{first} is not installed"]
    return "".join([*found, *missing][:1])


def run_page(page: str, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run a page, PAGE or PAGE:LINE; prints a line each, and gives what became of it."""
    page, _, line = page.partition(":")
    for place, text, command in lines_of(page, int(line or 1)):
        started = time.monotonic()
        outcome, why = "not run", reason(page, command, environment["PATH"])
        if not why:
            outcome, why = run(command, folder, environment)
        took = f"{time.monotonic() - started:.0f} s"
        print(f"{outcome:<8} {took:>5}  {place}: {text}{why and f': {why}'}", flush=True)
        yield outcome


def run(command: str, folder: Path, environment: dict[str, str]) -> Result:
    """Run a command; of one that failed, the end of what it printed."""
    shell = ["timeout", str(TIMEOUT), "bash", "-c", command]
    done = subprocess.run(
        shell,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if not done.returncode:
        return "ran", ""
    said = "\n".join(done.stdout.splitlines()[-15:])
    return "FAILED", f"status {done.returncode} of\n{command}\n{textwrap.indent(said, '    ')}"


def environment_of(home: Path) -> dict[str, str]:
    """That of commands: the caches of `stand_ins`, no network, this Python first."""
    first = [str(Path(sys.executable).parent), os.environ["PATH"]]
    return os.environ | {
        "PATH": os.pathsep.join(first),
        "VIRTUAL_ENV_DISABLE_PROMPT": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), "."]),  # a network of one's own is in the folder
        "TORCH_HOME": str(home / "torch"),
        "HF_HOME": str(home / "hub"),
        "HF_HUB_OFFLINE": "1",
    }


def main() -> None:
    """Run the pages that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", nargs="*", default=[p for p in pages() if p != "docs/log.md"])
    chosen = parser.parse_args().page
    import stand_ins  # loads torch

    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as root:
        made = Path(root) / "made"
        stand_ins.make(made, Path(root))
        for number, page in enumerate(chosen):
            folder = Path(root) / str(number)
            shutil.copytree(made, folder, symlinks=True, copy_function=os.link)
            counts.update(run_page(page, folder, environment_of(Path(root))))
            shutil.rmtree(folder)
    print(", ".join(f"{counts[outcome]} {outcome}" for outcome in ("ran", "FAILED", "not run")))
    raise SystemExit(counts["FAILED"] > 0)


if __name__ == "__main__":
    main()
