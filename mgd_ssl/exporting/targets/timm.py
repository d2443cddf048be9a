"""``--to timm``: weights that timm's network of the same name loads."""

from typing import Any, ClassVar

from torch import nn

from mgd_ssl.exporting.built_by_name import BuiltByName
from mgd_ssl.exporting.original import Original
from mgd_ssl.models.timm_networks import is_timm, own_defaults, timm_name


class Timm(BuiltByName):
    """``timm.create_model``; a backbone has no head."""

    name, ending = "timm", ".timm.safetensors"
    packages: ClassVar = {"timm": "timm>=1.0.15"}

    def refusal(self, original: Original) -> str:
        """DINOv2's positions at another size than theirs, too, which timm resizes otherwise."""
        from mgd_ssl.models.dinov2_positions import own_side

        side, size = own_side(original.network), original.contract.size
        if side not in (None, size):
            return (
                f"timm resizes its positions otherwise than DINOv2's authors at {size} pixels; "
                f"at --size {side} both are the same"
            )
        return super().refusal(original)

    def build(self, original: Original) -> nn.Module | None:
        """Networks that timm knows by the same name, such as torchvision's ResNets, too."""
        import timm

        if not is_timm(original.spec.arch) or original.spec.width != 1:
            return None
        name = timm_name(original.spec.arch)
        network: nn.Module = timm.create_model(name, pretrained=False, **_arguments(original))
        return network

    def loading(self, original: Original, file: str) -> list[str]:
        """With timm alone, which loads strictly."""
        given = "".join(f", {name}={value!r}" for name, value in _arguments(original).items())
        name = timm_name(original.spec.arch)
        return [
            "import timm",
            f"network = timm.create_model({name!r}{given}, checkpoint_path={file!r}).eval()",
        ]


def _arguments(original: Original) -> dict[str, Any]:
    own, name = dict(original.spec.options), timm_name(original.spec.arch)
    return {"num_classes": original.classes, **own_defaults(name), **own}
