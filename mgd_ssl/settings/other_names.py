"""Names that other projects give to options that exist here under a name of this project's."""

from collections.abc import Sequence
from typing import Any

from mgd_ssl.settings.config_file import DATA, leaves
from mgd_ssl.settings.words import OPTION, option_name

# Each option here, and its names in timm, MoCo, solo-learn, lightly-train, DINO, Lightning, …
OTHER_NAMES = {
    DATA: "data data-dir data-path dataset dataset-path train-data train-dir root images imagenet",
    "lr": "learning-rate base-lr blr init-lr lr-scale scale-lr auto-scale-lr",
    "workers": "num-workers n-workers dataloader-workers",
    "out": "output output-dir out-dir save-dir checkpoint-dir log-dir exp-dir work-dir",
    "arch": "model model-name backbone student student-arch net",
    "batch_size": "batch bs batch-size-per-gpu batch-size-per-device",
    "size": "image-size img-size input-size imgsz crop-size resolution",
    "epochs": "max-epochs num-epochs n-epochs",
    "optimizer": "opt optim",
    "accumulate": "accum-iter grad-accum-steps accumulate-grad-batches gradient-accumulation-steps",
    "clip_grad": "grad-clip max-grad-norm gradient-clip-val clip-grad-norm",
    "ema": "model-ema ema-decay model-ema-decay",
    "teacher": "teacher-path teacher-weights teacher-checkpoint teacher-model",
    "student_weights": "pretrained init-weights finetune",
    "checkpoint": "checkpoint weights ckpt model-path pretrained pretrained-weights",
    "devices": "gpus num-gpus ngpus nproc-per-node",
    "num_nodes": "nodes nnodes",
    "precision": "amp fp16 bf16 half use-fp16",
    "warmup_epochs": "warmup",
    "resume": "continue auto-resume",
    "print_freq": "log-interval log-freq log-every log-every-n-steps",
    "knn_k": "nb-knn k n-neighbors",
    "knn_t": "temperature t",
}
POSITIONAL = {DATA: "DATA", "checkpoint": "CHECKPOINT"}
NOTES = {"lr-scale": "--lr is not scaled with the batch size"}
NOTES |= dict.fromkeys(("scale-lr", "auto-scale-lr"), NOTES["lr-scale"])
NOTES |= dict.fromkeys(("batch-size-per-gpu", "batch-size-per-device"), "over all processes")


def refuse_other_names(settings: Any, words: Sequence[str]) -> None:
    """Refuse options that go by another name here, and say which.

    What has no such option, or has one of that very name, is left to the parser.

    Args:
        settings: with all options of the command.
        words: of the command line.

    Raises:
        ValueError: names the option of this command for each.
    """
    known = {name for name, _ in leaves(settings)}
    options = {f"--{name.replace('_', '-')}" for name in known - POSITIONAL.keys()}
    given = [option_name(word) for word in words if OPTION.match(word)]
    hints = [_hint(word, known) for word in dict.fromkeys(given) if word not in options]
    if any(hints):
        raise ValueError("; ".join(filter(None, hints)))


def _hint(word: str, known: set[str]) -> str:
    """What to write in place of a word; empty if nothing is known to mean the same."""
    name = word.removeprefix("--")
    ours = [o for o, names in OTHER_NAMES.items() if o in known and name in names.split()]
    if not ours or name == word:
        return ""
    note = f" ({NOTES[name]})" if name in NOTES else ""
    if place := POSITIONAL.get(ours[0]):
        return f"{word}: no such option, expected {place} alone, without an option before it"
    return f"{word}: no such option, expected --{ours[0].replace('_', '-')}{note}"
