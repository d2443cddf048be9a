"""One student distilled by lightly-train, in the Python that it is installed for.

    PYTHON -P benchmarks/lightly_student.py JOB.json

side_by_side.py writes the job and starts this. lightly-train is under the AGPL-3.0: it is called
here through its one public function, in a process of its own, and mgd_ssl never imports it. Of
mgd_ssl, that Python needs the files of networks alone, which ask for nothing but torchvision.
"""

import contextlib
import importlib
import json
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]


class Maps(nn.Module):
    """What lightly-train asks of a network of one's own: maps, their pooling, its width.

    Args:
        network: one of torchvision's ResNets, of any width and stem, or any network of timm.
        steps: gets the clock (seconds) at every pass; a frozen teacher needs none.

    Raises:
        SystemExit: another kind of network.
    """

    def __init__(self, network: nn.Module, steps: list[float] | None = None) -> None:
        super().__init__()
        names = [name for name, _ in network.named_children()]
        self.whole = hasattr(network, "forward_features")
        if "avgpool" not in names and not self.whole:
            sys.exit(f"got {type(network).__name__}, expected a ResNet of torchvision, or timm's")
        self.network, self.steps = network, steps
        self.names = names[: None if self.whole else names.index("avgpool")]

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """Images (N,3,H,W) to the last stage's maps (N,C,h,w)."""
        if self.steps is not None:
            self.steps.append(time.perf_counter())
        elif self.network.training:
            raise RuntimeError("the teacher is in training mode, expected eval")
        if self.whole:
            return {"features": self.network.forward_features(x)}  # type: ignore[operator]
        for name in self.names:
            x = self.network.get_submodule(name)(x)
        return {"features": x}

    def forward_pool(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """Maps (N,C,h,w) to their means (N,C,1,1)."""
        return {"pooled_features": x["features"].mean((2, 3), keepdim=True)}

    def feature_dim(self) -> int:
        """C."""
        return int(self.network.num_features)  # type: ignore[arg-type]

    def get_model(self) -> nn.Module:
        """The network whose weights are exported."""
        return self.network


def read_networks() -> ModuleType:
    """mgd_ssl/models/backbones.py and the files that it imports, without the packages' faces."""
    for name in ("mgd_ssl", "mgd_ssl.models"):
        package = ModuleType(name)
        package.__path__ = [str(ROOT / name.replace(".", "/"))]
        sys.modules[name] = package
    return importlib.import_module("mgd_ssl.models.backbones")


def versions() -> dict[str, str]:
    """Of the packages that decide on speed and quality, as far as they are installed."""
    found: dict[str, str] = {}
    for name in ("lightly-train", "torch", "torchvision", "pytorch-lightning"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def main() -> None:
    """Train; write when each step began, the seconds in all and the versions beside the weights."""
    import lightly_train

    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["pretrain"]["seed"])
    networks, steps = read_networks(), list[float]()
    teacher = networks.create_backbone(**job["teacher"]).eval()
    teacher.load_state_dict(torch.load(job["weights"], weights_only=True))
    student = Maps(networks.create_backbone(**job["student"]), steps)
    settings = job["pretrain"]
    settings["method_args"] = {**settings.get("method_args", {}), "teacher": Maps(teacher)}
    started = time.perf_counter()
    lightly_train.pretrain(model=student, **settings)
    seconds = time.perf_counter() - started
    result = {"steps": steps, "seconds": seconds, "versions": versions()}
    (Path(settings["out"]) / "steps.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
