"""``--to onnx``: the network for ONNX Runtime and other engines, with any batch size."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import torch

from mgd_ssl.exporting.original import Original
from mgd_ssl.exporting.target import Runnable, Target
from mgd_ssl.exporting.tracing import trace

INPUT = "images"


class Onnx(Target):
    """One .onnx file, weights inside; the metadata are the model's."""

    name, ending = "onnx", ".onnx"
    packages: ClassVar = {
        "onnx": "onnx>=1.19",
        "onnxruntime": "onnxruntime>=1.23",
        "onnxscript": "onnxscript>=0.5",
    }

    def write(self, original: Original, path: Path) -> None:
        """Translate the traced program, and check the file by ONNX's own rules."""
        import onnx

        with _quiet():
            program = torch.onnx.export(
                trace(original),
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[original.output],
            )
        assert program is not None
        program.model.metadata_props.update(original.metadata)
        program.save(path, external_data=False)
        onnx.checker.check_model(path, full_check=True)

    def load(self, original: Original, path: Path) -> Runnable:
        """Run the file by ONNX Runtime on the CPU."""
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

        def run(images: torch.Tensor) -> dict[str, torch.Tensor]:
            (found,) = session.run([original.output], {INPUT: images.numpy()})
            return {original.output: torch.from_numpy(found)}

        return run

    def loading(self, original: Original, file: str) -> list[str]:
        """With ONNX Runtime alone."""
        return [
            "import onnxruntime",
            f"session = onnxruntime.InferenceSession({file!r})",
            f"({original.output},) = session.run(None, {{{INPUT!r}: images}})  # a NumPy array",
        ]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the notes of the translation, which are about its own inside."""
    loud = logging.getLogger("torch.onnx")
    level = loud.level
    loud.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        loud.setLevel(level)
