"""Networks of timm by name, built as their authors use them."""

import re
from typing import Any

import torch
from torch import nn

from mgd_ssl.images import Rgb
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
            name, pretrained=False, num_classes=0, **(own_defaults(name) | given)
        )
    except (TypeError, AssertionError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"arch: timm does not build {name} with {given or 'its own arguments'}: {error}"
        ) from error
    from mgd_ssl.models.dinov2_positions import adopt

    return adopt(network, name)


def own_defaults(name: str) -> dict[str, Any]:
    """Arguments of a network that this project sets for every user of it."""
    from timm.models import is_model_in_modules

    defaults: dict[str, Any] = {}
    if is_model_in_modules(name.partition(".")[0], RESIZING):
        defaults["dynamic_img_size"] = True
    if CLASS_TOKEN.search(name) and is_model_in_modules(name.partition(".")[0], ["eva"]):
        defaults["global_pool"] = "token"
    return defaults


def published(name: str) -> dict[str, Any]:
    """Weights that timm publishes under a name, and what they take.

    Raises:
        ValueError: no network of that name.
        OSError: they cannot be downloaded.
    """
    try:
        import timm
    except ImportError as error:
        raise ValueError(f"weights: {name!r} needs timm; pip install timm") from error
    if not is_timm(name):
        raise ValueError(f"weights: {name!r} is no network of timm; see timm.list_pretrained()")
    arch = faithful_name(timm_name(name))
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = timm.create_model(arch, pretrained=True)
    recipe: Any = network.pretrained_cfg
    return {
        "arch": name if arch == timm_name(name) else f"timm/{arch}",
        "state_dict": network.state_dict(),
        "normalisation": {"mean": list(recipe["mean"]), "std": list(recipe["std"])},
        "size": recipe["input_size"][-1],
    }


def usual_normalization(arch: str) -> tuple[Rgb, Rgb] | None:
    """Mean and deviation that all weights take which timm publishes of a network.

    None where it is no network of timm, or where they differ, as a ViT's do.
    """
    if not is_timm(arch):
        return None
    import timm

    name = timm_name(arch).partition(".")[0]
    configs = [timm.get_pretrained_cfg(full) for full in timm.list_pretrained(f"{name}.*")]
    found = {(tuple(config.mean), tuple(config.std)) for config in configs if config}
    return found.pop() if len(found) == 1 else None


def faithful_name(name: str) -> str:
    """The name under which timm computes what the authors of published weights do.

    Under ``_dinov3`` the biases of DINOv3's attention are dropped, and under ``_clip`` networks
    trained with QuickGELU compute GELU; timm has both under other names, of the same weights.
    """
    import timm

    arch, _, tag = name.partition(".")
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    tag = tag or (config.tag if config else "")
    for word, faithful in (("_dinov3", "_dinov3_qkvb"), ("_clip_", "_clip_quickgelu_")):
        other = f"{arch.replace(word, faithful)}.{tag}"
        if faithful not in arch and word in arch and timm.list_pretrained(other):
            return other
    return name


def license_of(name: str) -> str | None:
    """What timm says of published weights' license, as ``apache-2.0``; None where it does not."""
    import timm

    config = timm.get_pretrained_cfg(timm_name(name), allow_unregistered=True)
    return config.license if config else None
