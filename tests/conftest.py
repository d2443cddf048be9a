"""Every test runs with the tensor shapes of the annotations checked."""

import torch
from jaxtyping import install_import_hook

install_import_hook(
    ["mgd_ssl.matching", "mgd_ssl.evaluation", "mgd_ssl.objectives"], "beartype.beartype"
)
torch.set_num_threads(1)
