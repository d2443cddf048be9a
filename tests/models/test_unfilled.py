"""Networks whose values come from a file are built without random ones."""

import pytest
import torch
from torch import nn

from mgd_ssl.models import create_backbone, create_classifier
from mgd_ssl.models.unfilled import unfilled


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v2", "timm/vit_tiny_patch16_224"])
def test_it_draws_no_numbers_and_leaves_buffers_and_constants_alone(arch):
    torch.manual_seed(0)
    filled = create_backbone(arch)
    before = torch.get_rng_state()
    with unfilled():
        network = create_backbone(arch)
    assert torch.equal(torch.get_rng_state(), before)
    assert {k: v.shape for k, v in network.state_dict().items()} == {
        k: v.shape for k, v in filled.state_dict().items()
    }
    for (name, own), other in zip(network.named_buffers(), filled.buffers(), strict=True):
        assert torch.equal(own, other), name
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm)]
    assert norms and all(bool((m.weight == 1).all()) for m in norms)


def test_a_tensor_that_is_no_parameter_is_filled():
    with unfilled():
        drawn = torch.zeros(8).normal_()
        network = create_classifier(3).eval()
    assert drawn.abs().min() > 0 and network(torch.rand(1, 3, 32, 32)).shape == (1, 3)
