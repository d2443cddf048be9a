"""``mgd-ssl COMMAND``: the commands under one name."""

import difflib
import importlib
import sys
from collections.abc import Sequence

import mgd_ssl
from mgd_ssl.streams import tolerant_streams

COMMANDS = {
    "pretrain": "distill a student from a teacher, or train one without a teacher",
    "classify": "train a classifier, alone or distilled from a teacher",
    "detect": "train a detector, alone or distilled from a teacher",
    "cache": "store a teacher's answers, to train without running it",
    "report": "one page of runs: teacher, students, baselines side by side",
    "pack": "write images of any kind as tar shards",
    "duplicates": "count validation images that are also training images",
    "export": "write a network for torchvision, timm, ONNX and others",
    "embed": "write the features of images, with names and labels",
    "knn-eval": "kNN accuracy and retrieval checks of a checkpoint",
    "linear-eval": "linear probe of a checkpoint",
    "doctor": "versions, devices, memory, disk, and how to add what is missing",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    with tolerant_streams():
        return _run(list(sys.argv[1:] if argv is None else argv))


def _run(args: Sequence[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if args[0] in ("-V", "--version"):
        print(f"mgd_ssl {mgd_ssl.__version__}")
        return 0
    if args[0].partition("=")[0] == "--completion":
        return _completion(args)
    if args[0] not in COMMANDS:
        near = difflib.get_close_matches(args[0], COMMANDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        print(f"error: no command {args[0]!r}{hint}\n\n{_usage()}", file=sys.stderr)
        return 2
    status: int = importlib.import_module(module_of(args[0])).main(args[1:])
    return status


def module_of(command: str) -> str:
    """The module of a command."""
    return f"mgd_ssl.commands.{command.replace('-', '_')}"


def _completion(args: Sequence[str]) -> int:
    from mgd_ssl.commands.completion import SHELLS, print_completion

    shell = "".join(args).removeprefix("--completion").removeprefix("=")
    if shell not in SHELLS:
        print(f"error: completion: got {shell!r}, expected {', '.join(SHELLS)}", file=sys.stderr)
        return 2
    print_completion(shell)
    return 0


def _usage() -> str:
    lines = [f"  {name:<14}{what}" for name, what in COMMANDS.items()]
    more = "mgd-ssl COMMAND --help describes one; mgd-ssl --version prints the version."
    tab = 'Completion on Tab: eval "$(mgd-ssl --completion bash)"; also for zsh and fish.'
    return "\n".join(["usage: mgd-ssl COMMAND [OPTIONS]", "", *lines, "", more, tab])


if __name__ == "__main__":
    raise SystemExit(main())
