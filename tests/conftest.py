"""Every test runs on one thread, and with the tensor shapes of the annotations checked."""

import os

import mgd_ssl.commands  # says what must be said before torch loads

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from jaxtyping import install_import_hook

assert mgd_ssl.commands

install_import_hook(
    ["mgd_ssl.matching", "mgd_ssl.evaluation", "mgd_ssl.objectives"], "beartype.beartype"
)
torch.set_num_threads(1)
