"""Put a file's weights into a network: whole, or not at all."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mgd_ssl.images import IMAGENET_MEAN, IMAGENET_STD
from mgd_ssl.models.families import Terms
from mgd_ssl.models.provenance import Provenance
from mgd_ssl.models.specs import BackboneSpec

DIGITS = 16  # of a SHA-256 in a line of the log
# Files older than PyTorch 0.4.1 lack it, and frozen norms do; nothing computes with it.
COUNT = "num_batches_tracked"
FLOATING = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class KeyReport:
    """What a checkpoint held and what became of it.

    Attributes:
        path: the file.
        layout: the layout recognized.
        spec: the network built.
        matched: number of entries loaded.
        missing: entries of the network that the file lacks.
        unexpected: entries of the file that the network lacks, the head's aside.
        head: entries of the head, left out.
        aside: entries that are no weights of the network: mask tokens, decoders, constants.
        mean: per channel, of the images the network expects, in [0,1].
        std: per channel.
        size: side of the images it was trained on, in pixels, where the file says so.
        classes: outputs of its classifier, where it was loaded with one.
        class_names: their names, in order, where the file says them.
        published: whether these are a library's weights, by name.
        features: dimension of its pooled features.
        place: the entry of the file and the prefix of its keys that were read.
        others: places that would have fitted too.
        remarks: what the file does not tell and is assumed.
        sha256: file name -> SHA-256; empty for published weights.
        terms: under which such weights are published, where known.
        learned_from: what a file of this project says of the weights that its own come from:
            ``teacher`` and ``student_weights`` -> `Provenance` as plain values.
    """

    path: Path
    layout: str
    spec: BackboneSpec
    matched: int = 0
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    size: int | None = None
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    published: bool = False
    features: int = 0
    place: str = ""
    others: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    sha256: Mapping[str, str] = field(default_factory=dict)
    terms: Terms | None = None
    learned_from: Mapping[str, Any] = field(default_factory=dict)

    @property
    def provenance(self) -> Provenance:
        """What a student carries of its teacher, or of the weights that it starts from."""
        source = str(self.path) if self.published else self.path.name
        origin = (self.sha256, self.terms, self.learned_from)
        return Provenance(source, self.layout, self.spec, *origin)

    @property
    def summary(self) -> str:
        """What became of the file's keys, in words."""
        where = f" ({self.place})" if self.place else ""
        text = (
            f"{self.path}: {self.layout} layout{where}, {self.spec.arch}; keys: {self.matched} "
            f"matched, {len(self.missing)} missing, {len(self.unexpected)} unexpected, "
            f"{len(self.head)} of a head left out"
        )
        return text + (f", {len(self.aside)} set aside ({_listed(self.aside)})" * bool(self.aside))

    def __str__(self) -> str:
        said = [f"sha256 {digest[:DIGITS]}…" for digest in self.sha256.values()][:1]
        said += [str(self.terms)] if self.terms else []
        said += [f"not read: {'; '.join(self.others)}"] if self.others else []
        return "; ".join([self.summary, *self.remarks, *said])


def _listed(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + ", …" * (len(names) > most)


def fill(
    network: nn.Module,
    state: Mapping[str, Any],
    report: KeyReport,
    advice: str,
    head: Iterable[str] = (),
) -> KeyReport:
    """Load a state that fits a network's to the last entry.

    Args:
        network: what is loaded.
        state: name -> tensor; whatever else is in it, under names that the network lacks, is left.
        report: of the file, without its keys.
        advice: what helps where they do not fit.
        head: names in the state that are left out.

    Returns:
        The report with the keys.

    Raises:
        ValueError: an entry is missing, too many, of another shape, or holds no finite numbers.
    """
    own, left_out = network.state_dict(), set(head)
    whole = {k for k, v in own.items() if not v.is_floating_point()}
    check_tensors(report.path, {k: v for k, v in state.items() if k in own}, whole)
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)}
    extra = [k for k in tensors if k not in own and not k.endswith(COUNT)]
    missing = [k for k in own if k not in tensors and not k.endswith(COUNT)]
    shapes = [k for k in own if k in tensors and own[k].shape != tensors[k].shape]
    report = replace(
        report,
        matched=sum(k in tensors for k in own) - len(shapes),
        missing=missing,
        unexpected=[k for k in extra if k not in left_out],
        head=[*report.head, *(k for k in extra if k in left_out)],
    )
    if missing or report.unexpected or shapes:
        advice = _channels(own, tensors, [*missing, *report.unexpected, *shapes]) or advice
        raise ValueError("\n".join([*_partial(report, own, tensors, shapes), f"  {advice}"]))
    check_values(report.path, tensors)
    network.load_state_dict({k: tensors[k] for k in own if k in tensors}, strict=False)
    return report


def _partial(
    report: KeyReport, own: Mapping[str, Tensor], state: Mapping[str, Tensor], shapes: list[str]
) -> list[str]:
    lines = [
        f"checkpoint: a partial load is refused. {report.summary}, {len(shapes)} of another shape"
    ]
    lines += [f"  missing: {', '.join(report.missing[:5])}"] if report.missing else []
    lines += [f"  unexpected: {', '.join(report.unexpected[:5])}"] if report.unexpected else []
    return lines + [
        f"  shape of {key}: got {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
        for key in shapes[:3]
    ]


def _channels(own: Mapping[str, Tensor], state: Mapping[str, Tensor], misfits: list[str]) -> str:
    """What helps where a network differs only in the channels of its images; else ""."""
    key, *more = misfits
    got, expected = (list(s[key].shape) if key in s else [] for s in (state, own))
    if more or expected[1:2] != [3] or [*got[:1], 3, *got[2:]] != expected:
        return ""
    return (
        f"It takes images of {got[1]} channels and this project's have three, red, green and "
        f"blue: save it with {key} of shape {tuple(expected)}; of one channel, for instance, "
        "that is its weight three times over, divided by 3"
    )


def check_tensors(path: Path, state: Mapping[str, Any], whole: Container[str] = ()) -> None:
    """Refuse what no network here holds: anything but dense tensors of plain numbers.

    Args:
        path: of the file.
        state: its entries.
        whole: names of entries that may be whole numbers, as counts of batches may.

    Raises:
        ValueError: names the file, the entry and what it holds.
    """
    for key, value in state.items():
        got = _unfit(value, whole=key in whole or key.endswith(COUNT))
        if got:
            raise ValueError(
                f"checkpoint: {path}, {key}: got {got}, expected a dense tensor of floating-point "
                "numbers; save the network's own state_dict(), neither quantized nor pruned"
            )


def _unfit(value: Any, *, whole: bool) -> str:
    """What is wrong with an entry, "" where nothing is."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    if value.is_quantized:
        return "a quantized tensor"
    if value.layout != torch.strided or value.is_nested:
        return f"a tensor of layout {value.layout}"
    if value.is_meta:
        return "a tensor without data, of the device meta"
    fits = value.dtype in FLOATING or (whole and not value.is_complex())
    return "" if fits else f"{value.dtype}"


def check_values(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse weights that are no finite numbers, and variances below 0.

    Raises:
        ValueError: names the file, the entry and how many values are wrong.
    """
    for key, value in state.items():
        if value.dtype not in FLOATING or value.layout != torch.strided or value.is_meta:
            continue  # of a head that is left out
        wrong = int((~value.isfinite()).sum())
        if wrong:
            raise ValueError(
                f"checkpoint: {path}, {key}: got {wrong} of {value.numel()} values that are NaN or "
                "infinite, expected finite ones; the training that wrote it had diverged, or the "
                "file is damaged: take an earlier one"
            )
        if key.endswith("running_var") and value.numel() and value.min() < 0:
            raise ValueError(
                f"checkpoint: {path}, {key}: got a variance of {float(value.min()):g}, expected 0 "
                "or more; the file is damaged: copy or download it again"
            )
