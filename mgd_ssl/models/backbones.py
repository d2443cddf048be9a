"""Networks by name, without a classifier: (N,3,H,W) images in, (N,D) pooled features out."""

import difflib
import importlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, cast

import torch
import torchvision
from torch import Tensor, nn

from mgd_ssl.models.resnets import RESNETS, ThinResNet
from mgd_ssl.models.specs import BackboneSpec as BackboneSpec
from mgd_ssl.models.specs import Options
from mgd_ssl.models.timm_networks import build_timm, is_timm
from mgd_ssl.models.torchvision_networks import CLASSIFIERS, build_torchvision, other_task
from mgd_ssl.models.unfilled import unfilled

# Networks of torchvision that can be made thinner, or whose stem can be made small.
TORCHVISION = [*RESNETS, "mobilenet_v2", "shufflenet_v2_x1_0"]
HEADS = ("fc", "classifier", "head")
NONE: Options = MappingProxyType({})


def create_backbone(
    arch: str = "resnet18",
    *,
    width: float = 1.0,
    stem: Literal["imagenet", "small"] = "imagenet",
    stem_stride: Literal[1, 2] = 1,
    options: Options = NONE,
) -> nn.Module:
    """Build a network with random weights and an identity in the classifier's place.

    Args:
        arch: see `BackboneSpec`.
        width: see `BackboneSpec`.
        stem: see `BackboneSpec`.
        stem_stride: see `BackboneSpec`.
        options: see `BackboneSpec`.

    Returns:
        The untouched network of torchvision or timm, (N,3,H,W) -> (N, ``num_features``). It
        carries ``num_features``, ``head_name`` (where `set_head` puts a head) and ``spec``.

    Raises:
        ValueError: no such architecture (the nearest names are given), or a width or a stem
            for which the architecture has no rule.
    """
    network = _create(BackboneSpec(arch, width, stem, stem_stride, options))
    set_head(network, nn.Identity())
    return network


def create_classifier(
    classes: int,
    arch: str = "resnet18",
    *,
    width: float = 1.0,
    stem: Literal["imagenet", "small"] = "imagenet",
    stem_stride: Literal[1, 2] = 1,
    options: Options = NONE,
) -> nn.Module:
    """Build a network whose classifier has ``classes`` outputs, (N,3,H,W) -> (N,K) logits.

    The keys are those of torchvision or timm, the classifier's too. See `create_backbone`.

    Raises:
        ValueError: fewer than two classes, or what `create_backbone` refuses.
    """
    if classes < 2:
        raise ValueError(f"classes: got {classes}, expected two or more")
    network = _create(BackboneSpec(arch, width, stem, stem_stride, options))
    head = head_of(network)
    linear = [name for name, m in head.named_modules() if isinstance(m, nn.Linear)]
    if linear and linear[-1]:  # inside a head of several layers, as MobileNet v2's
        inputs = cast(nn.Linear, head.get_submodule(linear[-1])).in_features
        head.set_submodule(linear[-1], nn.Linear(inputs, classes))
    elif isinstance(head, nn.Conv2d):  # SqueezeNet's, which pools after it
        set_head(network, nn.Conv2d(head.in_channels, classes, kernel_size=1))
    else:
        set_head(network, nn.Linear(cast(int, network.num_features), classes))
    return network


def _create(spec: BackboneSpec) -> nn.Module:
    """The network with the head that its library gives it."""
    network = _build(spec)
    if spec.stem == "small":
        _make_small_stem(network, spec.arch, spec.stem_stride)
    head_name = _head_name(network)
    features = getattr(network, "head_hidden_size", getattr(network, "num_features", None))
    if not isinstance(features, int):
        features = _linear_inputs(network.get_submodule(head_name))
    network.num_features, network.head_name, network.spec = features, head_name, spec  # type: ignore[assignment]
    return network


@lru_cache
def backbone_shapes(spec: BackboneSpec) -> dict[str, torch.Size]:
    """Shapes of a backbone's state; draws no random numbers and takes no memory for weights.

    Raises:
        ValueError: see `create_backbone`.
    """
    network = without_memory(spec)
    return {key: value.shape for key, value in network.state_dict().items()}


def without_memory(spec: BackboneSpec) -> nn.Module:
    """A network without data; the few that need some, and the user's own, have it."""
    with torch.random.fork_rng(devices=[]), unfilled_of(spec):
        if ":" not in spec.arch:
            try:
                with torch.device("meta"):
                    return create_backbone(**spec.to_dict())
            except NotImplementedError:  # from one that computes with its values as it is built
                pass
        return create_backbone(**spec.to_dict())


def unfilled_of(spec: BackboneSpec) -> AbstractContextManager[object]:
    """`unfilled`, but for the user's own network, whose code may do as it likes with its values."""
    return nullcontext() if ":" in spec.arch else unfilled()


@lru_cache
def attention_heads(arch: str) -> int | None:
    """Heads of a timm transformer's blocks by name; None of another network."""
    modules = without_memory(BackboneSpec(arch)).modules()
    counts = (getattr(module, "num_heads", None) for module in modules)
    return next((count for count in counts if isinstance(count, int)), None)


def is_known(arch: str) -> bool:
    """Whether torchvision or timm, where it is installed, has a network of this name."""
    return arch in CLASSIFIERS or is_timm(arch)


def head_of(network: nn.Module) -> nn.Module:
    """What is in the classifier's place; `torch.nn.Identity` in a backbone."""
    return network.get_submodule(str(network.head_name))


def set_head(network: nn.Module, head: nn.Module) -> None:
    """Put ``head``, (N,D) -> (N,K), in the classifier's place."""
    parent, _, name = str(network.head_name).rpartition(".")
    setattr(network.get_submodule(parent), name, head)


@contextmanager
def without_head(network: nn.Module) -> Iterator[nn.Module]:
    """Inside, the network gives its pooled features (N,D); after, its head is back."""
    head = head_of(network)
    try:
        set_head(network, nn.Identity())
        yield network
    finally:
        set_head(network, head)


def backbone_state(network: nn.Module) -> dict[str, Tensor]:
    """The state dict without the head's entries: keys of torchvision or timm."""
    head = f"{network.head_name}."
    return {k: v for k, v in network.state_dict().items() if not k.startswith(head)}


def _build(spec: BackboneSpec) -> nn.Module:
    arch, width = spec.arch, spec.width
    if spec.options and (":" in arch or arch in CLASSIFIERS):
        raise ValueError(f"options: got {dict(spec.options)} for {arch}, expected a timm network")
    if ":" in arch:
        return _build_own(arch)
    if arch in RESNETS and width != 1.0:
        return ThinResNet(*RESNETS[arch], width=width)
    if arch == "mobilenet_v2":
        return torchvision.models.mobilenet_v2(weights=None, width_mult=width)  # type: ignore[no-any-return]
    if width != 1.0:
        raise ValueError(
            f"width: got {width} for {arch}, expected 1.0; "
            f"only {', '.join(RESNETS)} and mobilenet_v2 can be made thinner"
        )
    if arch in CLASSIFIERS:
        return build_torchvision(arch)
    return _build_timm(arch, spec.options)


def _build_own(arch: str) -> nn.Module:
    module, _, function = arch.partition(":")
    try:
        network = getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"arch: got {arch!r}, expected MODULE:FUNCTION that returns a network; {error}"
        ) from error
    except Exception as error:  # the user's own code may raise anything
        raise ValueError(
            f"arch: {arch!r} failed: {type(error).__name__}: {error}; expected a function that "
            "takes no arguments and returns a network"
        ) from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"arch: {arch!r} returned {type(network).__name__}, expected nn.Module")
    return network


def _build_timm(arch: str, options: Options) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise ValueError(_unknown(arch, CLASSIFIERS) + "; more with pip install timm") from error
    if not is_timm(arch):
        raise ValueError(_unknown(arch, [*CLASSIFIERS, *timm.list_models()]))
    return build_timm(arch, options)


def _unknown(arch: str, known: Sequence[str]) -> str:
    if other_task(arch):
        return f"arch: {other_task(arch)}"
    once = list(dict.fromkeys(known))  # timm and torchvision share names
    near = difflib.get_close_matches(arch.removeprefix("timm/"), once, n=3) or TORCHVISION
    return f"arch: got {arch!r}, which is no known network; nearest: {', '.join(near)}"


def _head_name(network: nn.Module) -> str:
    config = getattr(network, "default_cfg", None) or {}
    names = [config.get("classifier"), getattr(network, "head_name", None), *HEADS]
    for name in names:
        if isinstance(name, str) and _has(network, name):
            return name
    raise ValueError(
        f"{type(network).__name__}: no classifier named {', '.join(HEADS)}; "
        "set its attribute head_name to where a head belongs"
    )


def _has(network: nn.Module, path: str) -> bool:
    try:
        network.get_submodule(path)
    except AttributeError:
        return False
    return True


def _linear_inputs(head: nn.Module) -> int:
    for module in head.modules():
        if isinstance(module, nn.Linear):
            return module.in_features
        if isinstance(module, nn.Conv2d):  # SqueezeNet's
            return module.in_channels
    raise ValueError("the classifier holds no Linear; give the network an attribute num_features")


def _make_small_stem(network: nn.Module, arch: str, stride: int) -> None:
    """Make the first convolution 3×3 with the stride asked for; take the max-pool out."""
    path = next((n for n, m in network.named_modules() if isinstance(m, nn.Conv2d)), None)
    known = isinstance(getattr(network, "maxpool", None), nn.Module) or arch == "mobilenet_v2"
    if path is None or not known:
        raise ValueError(f"stem: no rule for a small stem on {arch}; use --stem imagenet")
    old = network.get_submodule(path)
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(
        old.in_channels, old.out_channels, 3, stride=stride, padding=1, bias=old.bias is not None
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, new)
    if hasattr(network, "maxpool"):
        network.maxpool = nn.Identity()
