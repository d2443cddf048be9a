"""Networks of timm by name, built as their authors use them."""

import re
from typing import Any

from torch import nn

from mgd_ssl.models.specs import Options

# Networks that resize their position embedding to the images, so that any multiple of the patch
# is a size; timm's default is the one size that they are built for.
RESIZING = ["vision_transformer", "eva", "deit"]
# DINOv3's authors use the class token; timm pools the patches.
CLASS_TOKEN = re.compile(r"_dinov3(_|\.|$)")


def timm_name(arch: str) -> str:
    """timm's name of an architecture; MobileNet v1 goes by the field's name too."""
    return {"mobilenet_v1": "mobilenetv1_100"}.get(arch, arch.removeprefix("timm/"))


def is_timm(arch: str) -> bool:
    """Whether timm is installed and has a network of this name."""
    try:
        import timm
    except ImportError:
        return False
    return bool(timm.is_model(timm_name(arch)))


def build_timm(arch: str, options: Options) -> nn.Module:
    """Build a timm network with random weights and without a classifier.

    Args:
        arch: a name that `is_timm` knows.
        options: arguments that differ from the network's own.

    Raises:
        ValueError: the network does not take an option, or not its value.
    """
    import timm

    name, given = timm_name(arch), dict(options)
    try:
        network: nn.Module = timm.create_model(
            name, pretrained=False, num_classes=0, **(_defaults(name) | given)
        )
    except (TypeError, AssertionError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"arch: timm does not build {name} with {given or 'its own arguments'}: {error}"
        ) from error
    from mgd_ssl.models.dinov2_positions import adopt

    return adopt(network, name)


def _defaults(name: str) -> dict[str, Any]:
    """Arguments of a network that this project sets for every user of it."""
    from timm.models import is_model_in_modules

    defaults: dict[str, Any] = {}
    if is_model_in_modules(name.partition(".")[0], RESIZING):
        defaults["dynamic_img_size"] = True
    if CLASS_TOKEN.search(name) and is_model_in_modules(name.partition(".")[0], ["eva"]):
        defaults["global_pool"] = "token"
    return defaults
