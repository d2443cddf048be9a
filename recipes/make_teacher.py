"""Make the embedded teacher from a run: MoCo's layout with the query encoder alone.

    python pretrain.py FOLDER_OF_IDX_FILES --method moco …       (docs/teacher.md has the options)
    python recipes/make_teacher.py runs/teacher/checkpoints/last.pt

The key encoder, the queue and the optimizer are left out: nothing reads them in a teacher.
"""

import argparse
from pathlib import Path

from mgd_ssl.settings.pretrain import EMBEDDED_TEACHER
from mgd_ssl.training.checkpoint import load_checkpoint, save_checkpoint

KEPT = ("epoch", "arch", "backbone", "normalisation", "size")
PREFIX = "module.encoder_q."


def main() -> None:
    """Read a run's checkpoint, write the teacher."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, default=EMBEDDED_TEACHER)
    options = parser.parse_args()
    content = load_checkpoint(options.checkpoint)
    state = {k: v.clone() for k, v in content["state_dict"].items() if k.startswith(PREFIX)}
    save_checkpoint(options.out, {k: content[k] for k in KEPT} | {"state_dict": state})
    print(f"written: {options.out}, {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
