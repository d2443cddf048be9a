"""Features of whole images from a network's output."""

from jaxtyping import Float
from torch import Tensor


def pool(output: Float[Tensor, "n d *hw"]) -> Float[Tensor, "n d"]:
    """A network's output (N,D) as it is, (N,D,H,W) by its mean over H and W.

    Raises:
        ValueError: the output has another shape.
    """
    if output.ndim == 4:
        return output.mean(dim=(2, 3))
    if output.ndim != 2:
        raise ValueError(
            f"network output: got shape {tuple(output.shape)}, expected (N,D) or (N,D,H,W): "
            "evaluate a backbone without another head"
        )
    return output
