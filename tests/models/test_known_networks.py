"""A state dict of any network of a library is told by its entries, or all that share them named."""

import pytest
import timm
import torch
import torchvision
from test_checkpoints import prefixed, random_state

from mgd_ssl.models import create_backbone, load_backbone, load_classifier
from mgd_ssl.models.backbones import backbone_shapes
from mgd_ssl.models.known_networks import names_of
from mgd_ssl.models.specs import BackboneSpec

# of a few kinds: with a stem of their own, attention, several words in the head's name
UNIQUE = [
    "timm/levit_128s",
    "timm/edgenext_xx_small",
    "timm/ghostnet_050",
    "timm/eva02_tiny_patch14_224",
    "timm/swin_tiny_patch4_window7_224",
    "timm/convnextv2_atto",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "swin_t",
    "mnasnet0_5",
]


@pytest.mark.parametrize("arch", UNIQUE)
def test_the_index_names_a_network_by_its_entries(arch):
    assert names_of(backbone_shapes(BackboneSpec(arch))) == [arch]


@pytest.mark.parametrize("prefix", ["", "module.", "model.backbone."])
def test_a_network_that_no_family_knows_is_found_and_loaded(prefix, tmp_path):
    state = random_state("timm/ghostnet_050")
    classifier = {"classifier.weight": torch.randn(7, 1280), "classifier.bias": torch.randn(7)}
    torch.save({"state_dict": prefixed(prefix, state | classifier)}, tmp_path / "a.pt")
    network, report = load_backbone(tmp_path / "a.pt")
    assert report.spec.arch == "timm/ghostnet_050"
    assert all(torch.equal(network.state_dict()[key], state[key]) for key in state)
    assert len(report.head) == 2
    assert load_classifier(tmp_path / "a.pt")[1].classes == 7


def test_a_classifier_of_torchvision_is_told_by_its_file(tmp_path):
    library = torchvision.models.mobilenet_v3_small().eval()
    torch.save(library.state_dict(), tmp_path / "a.pth")
    network, report = load_classifier(tmp_path / "a.pth")
    assert (report.spec.arch, report.classes) == ("mobilenet_v3_small", 1000)
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network(x), library(x))


def test_networks_that_share_their_entries_are_all_named(tmp_path):
    state = timm.create_model("efficientnet_lite0", num_classes=3).state_dict()
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"timm/efficientnet_lite0 and timm/tf_efficientnet_lite0"):
        load_backbone(tmp_path / "a.pt")
    _, report = load_backbone(tmp_path / "a.pt", arch="tf_efficientnet_lite0")
    assert report.missing == []


def test_a_network_that_two_libraries_have_alike_is_torchvisions(tmp_path):
    state = random_state("timm/densenet121")
    torch.save(state, tmp_path / "a.pt")
    assert load_backbone(tmp_path / "a.pt")[1].spec.arch == "densenet121"


@pytest.mark.parametrize("written", ["efficientnet_b0", "timm/efficientnet_b0"])
@pytest.mark.parametrize("said", ["arch", "backbone"])
def test_a_name_that_two_libraries_have_means_whose_entries_the_file_has(written, said, tmp_path):
    """Files of this project from before it knew torchvision's meant timm's."""
    state = random_state(written)
    name = {
        "arch": {"arch": "efficientnet_b0"},
        "backbone": {"backbone": {"arch": "efficientnet_b0"}},
    }
    torch.save({"state_dict": state, **name[said]}, tmp_path / "a.pt")
    network, report = load_backbone(tmp_path / "a.pt")
    assert report.spec.arch == written
    assert all(torch.equal(network.state_dict()[key], state[key]) for key in state)


def test_the_index_is_that_of_the_networks_that_are_installed():
    """Every fiftieth; the whole takes minutes."""
    for name in timm.list_models()[::50]:
        shapes = backbone_shapes(BackboneSpec(f"timm/{name}"))
        assert f"timm/{name}" in names_of(shapes), name


def test_a_named_network_needs_no_index(tmp_path):
    network = create_backbone("timm/levit_128s")
    torch.save({"arch": "levit_128s", "state_dict": network.state_dict()}, tmp_path / "a.pt")
    assert load_backbone(tmp_path / "a.pt")[1].spec.arch == "levit_128s"


@pytest.mark.parametrize(
    "name", ["deit_tiny_distilled_patch16_224", "levit_128s", "efficientformer_l1"]
)
def test_both_heads_of_a_distilled_network_are_left_out(name, tmp_path):
    library = timm.create_model(name, num_classes=7).eval()
    torch.save(library.state_dict(), tmp_path / "a.pt")
    network, report = load_backbone(tmp_path / "a.pt", arch=f"timm/{name}")
    assert {key.partition(".")[0] for key in report.head} == {"head", "head_dist"}
    library.reset_classifier(0)
    x = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(network(x), library(x))


def test_a_classifier_with_two_heads_is_refused(tmp_path):
    library = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=7)
    torch.save(library.state_dict(), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"unexpected: head_dist\.weight, head_dist\.bias"):
        load_classifier(tmp_path / "a.pt")


@pytest.mark.parametrize("change", ["unexpected", "missing"])
@pytest.mark.parametrize("arch", ["timm/ghostnet_050", "timm/resnet18", "mobilenet_v3_small"])
def test_the_network_that_was_named_and_is_nearly_there_is_not_asked_for_again(
    arch, change, tmp_path
):
    state = random_state(arch)
    if change == "unexpected":
        state["decoder.weight"] = torch.ones(1)
    else:
        del state[next(key for key in reversed(state) if key.endswith("bias"))]
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="a partial load is refused") as error:
        load_backbone(tmp_path / "a.pt", arch=arch)
    said = str(error.value)
    assert f"{change}: " in said and "Name the architecture" not in said and arch in said
    assert "with others or not all: save that network's state_dict() alone, and whole" in said


def test_the_network_that_a_file_holds_is_named_where_another_was_asked_for(tmp_path):
    state = random_state("timm/ghostnet_050")
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"holds: --arch timm/ghostnet_050, of a teacher"):
        load_backbone(tmp_path / "a.pt", arch="timm/ghostnet_100")
    torch.save({**state, "decoder.weight": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="if it is not timm/ghostnet_100: --arch") as error:
        load_backbone(tmp_path / "a.pt", arch="timm/ghostnet_100")
    assert "If it is, save that network's state_dict() alone" in str(error.value)
