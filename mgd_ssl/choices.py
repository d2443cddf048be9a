"""What a string chooses: the names, known before torch loads, and what each stands for."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

AssignmentMode = Literal["balanced", "shave", "sparse"]
Adapter = Literal["batch", "group", "expand"]


class Registry(Mapping[str, Any]):
    """Objects by name, each imported when it is first asked for.

    Args:
        places: name -> ``module:object``.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)

    def __getitem__(self, name: str) -> Any:
        """The object called ``name``."""
        module, _, attribute = self._places[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


# How a group of teacher channels becomes one: (grouped, margin, mask) -> (map, margin). A group of
# one stays as it is, so that no reducer is asked.
REDUCERS = Registry(
    {
        "amp": "mgd_ssl.matching.reducers:absolute_max_pooling",
        "sp": "mgd_ssl.matching.reducers:simple_pooling",
        "sp_avg": "mgd_ssl.matching.reducers:average_pooling",
        "rd": "mgd_ssl.matching.reducers:random_drop",
        "sm": "mgd_ssl.matching.reducers:sparse_matching",
    }
)
# The assignment that a reducer wants; balanced unless it is here.
OWN_MODES: Mapping[str, AssignmentMode] = {"sm": "sparse"}


def usual_mode(reducer: str) -> AssignmentMode:
    """How channels are assigned for a reducer unless told otherwise."""
    return OWN_MODES.get(reducer, "balanced")


# What `mgd-ssl export --to` writes.
EXPORT_TARGETS = Registry(
    {
        "safetensors": "mgd_ssl.exporting.targets.safetensors:Safetensors",
        "torchvision": "mgd_ssl.exporting.targets.torchvision:Torchvision",
        "timm": "mgd_ssl.exporting.targets.timm:Timm",
        "onnx": "mgd_ssl.exporting.targets.onnx:Onnx",
        "pt2": "mgd_ssl.exporting.targets.pt2:Pt2",
        "detectron2": "mgd_ssl.exporting.targets.detectron2:Detectron2",
    }
)

# What `mgd-ssl embed --out` writes, by the ending of the file.
FEATURE_FILES = Registry(
    {
        ".npz": "mgd_ssl.exporting.feature_files.npz:Npz",
        ".parquet": "mgd_ssl.exporting.feature_files.parquet:Parquet",
        ".safetensors": "mgd_ssl.exporting.feature_files.safetensors:SafetensorsTable",
    }
)
