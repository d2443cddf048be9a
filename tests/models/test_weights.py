"""Weights by name, from the libraries' own cache, and which files hold a classifier."""

from urllib.error import URLError

import pytest
import timm
import torch
from torchvision.models import (
    MobileNet_V2_Weights,
    ResNet18_Weights,
    ResNet50_Weights,
    get_model,
    mobilenet_v2,
    resnet18,
)

from mgd_ssl.images import IMAGENET_MEAN, IMAGENET_STD
from mgd_ssl.models import (
    backbone_state,
    create_backbone,
    create_classifier,
    load_backbone,
    load_classifier,
)

PUBLISHED = {
    "resnet18": ResNet18_Weights.IMAGENET1K_V1,
    "mobilenet_v2": MobileNet_V2_Weights.IMAGENET1K_V1,
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """torch.hub's folder of downloads, empty, on a machine without a network."""

    def unreachable(url, *_, **__):
        raise URLError(f"no route to {url}")

    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    return folder


def put(cache, arch):
    """Random weights under the file name that the library downloads to."""
    torch.manual_seed(0)
    network = get_model(arch).eval()
    torch.save(network.state_dict(), cache / PUBLISHED[arch].url.rpartition("/")[2])
    return network


def images(side=64):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def same_outputs(network, other):
    return torch.equal(network(images()), other(images()))


@pytest.mark.parametrize("arch", PUBLISHED)
@pytest.mark.parametrize("version", ["", ":IMAGENET1K_V1"])
def test_published_weights_are_loaded_with_their_classifier(cache, arch, version):
    library = put(cache, arch)
    network, report = load_classifier(arch + version)
    assert same_outputs(network, library)
    assert (report.classes, report.size, report.spec.arch) == (1000, 224, arch)
    assert (report.mean, report.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert not network.training


def test_published_weights_are_loaded_without_their_classifier(cache):
    library = put(cache, "resnet18")
    network, report = load_backbone("resnet18")
    library.fc = torch.nn.Identity()
    assert same_outputs(network, library)
    assert report.head == ["fc.weight", "fc.bias"]
    assert (report.classes, report.size) == (None, 224)
    assert (report.mean, report.std) == (IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize("load", [load_backbone, load_classifier])
def test_without_a_network_the_remedy_is_named(load):
    with pytest.raises(ValueError, match=r"'resnet18' could not be downloaded: .*no route to") as e:
        load("resnet18")
    assert "give the file's path" in str(e.value)


def test_an_unknown_version_is_answered_with_the_known_ones():
    known = ", ".join(w.name for w in ResNet50_Weights)
    with pytest.raises(ValueError, match=f"got 'V3' of resnet50, expected one of {known}"):
        load_classifier("resnet50:V3")


def test_an_unknown_name_is_taken_for_a_file_that_is_not_there():
    with pytest.raises(ValueError, match=r"got resnet19, which is no file; .* such as resnet18, "):
        load_classifier("resnet19")


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("fasterrcnn_resnet50_fpn", "detection"),
        ("deeplabv3_resnet50", "segmentation"),
        ("raft_large", "optical flow"),
        ("r3d_18", "video"),
    ],
)
@pytest.mark.parametrize("build", [create_classifier, load_classifier])
def test_a_network_of_another_task_is_called_so(name, task, build):
    classes = (3,) if build is create_classifier else ()
    with pytest.raises(ValueError, match=f"{name} is torchvision's network for {task}, expected a"):
        build(*classes, name)


def test_a_file_wins_over_the_name_that_it_has(cache, tmp_path, monkeypatch):
    put(cache, "resnet18")
    own = create_classifier(3, "resnet18", width=0.125).eval()
    torch.save(own.state_dict(), tmp_path / "resnet18")
    monkeypatch.chdir(tmp_path)
    network, report = load_classifier("resnet18")
    assert report.classes == 3
    assert same_outputs(network, own)


def test_a_checkpoint_of_pytorchs_imagenet_example_is_a_classifier(tmp_path):
    library = resnet18(num_classes=7).eval()
    state = {f"module.{k}": v for k, v in library.state_dict().items()}
    torch.save({"epoch": 90, "arch": "resnet18", "state_dict": state}, tmp_path / "model.pth.tar")
    network, report = load_classifier(tmp_path / "model.pth.tar")
    assert report.classes == 7
    assert same_outputs(network, library)


def test_moco_v1s_one_layer_projection_is_no_classifier(tmp_path):
    library = resnet18(num_classes=128).eval()
    state = {f"module.encoder_q.{k}": v for k, v in library.state_dict().items()}
    state |= {"module.queue": torch.zeros(128, 64), "module.queue_ptr": torch.zeros(1).long()}
    torch.save({"arch": "resnet18", "state_dict": state}, tmp_path / "moco.pth.tar")
    network, report = load_classifier(tmp_path / "moco.pth.tar")
    assert report.classes is None
    assert report.head == ["fc.weight", "fc.bias"]
    library.fc = torch.nn.Identity()
    assert same_outputs(network, library)


def test_mobilenet_v2s_classifier_is_the_linear_layer_of_its_head(tmp_path):
    library = mobilenet_v2(num_classes=5).eval()
    torch.save(library.state_dict(), tmp_path / "mobilenet.pth")
    network, report = load_classifier(tmp_path / "mobilenet.pth")
    assert report.classes == 5
    assert network.get_submodule("classifier.1").out_features == 5
    assert same_outputs(network, library)
    backbone, report = load_backbone(tmp_path / "mobilenet.pth")
    assert report.head == ["classifier.1.weight", "classifier.1.bias"]
    assert backbone(images()).shape == (2, 1280)


def test_mobilenet_v1_is_timms(tmp_path):
    library = timm.create_model("mobilenetv1_100", num_classes=6).eval()
    torch.save({"arch": "mobilenet_v1", "state_dict": library.state_dict()}, tmp_path / "v1.pth")
    network, report = load_classifier(tmp_path / "v1.pth")
    assert (report.classes, report.spec.arch) == (6, "mobilenet_v1")
    assert same_outputs(network, library)
    assert backbone_state(network).keys() == backbone_state(create_backbone("mobilenet_v1")).keys()


def test_timms_weights_bring_their_own_normalisation(monkeypatch):
    torch.manual_seed(0)
    library = timm.create_model("mobilenetv1_100").eval()  # random, as if downloaded
    create_model, asked = timm.create_model, []

    def downloaded(name, *, pretrained, **options):
        asked.append((name, pretrained))
        return library if pretrained else create_model(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", downloaded)
    network, report = load_classifier("timm/mobilenetv1_100")
    assert asked[0] == ("mobilenetv1_100", True)
    assert (report.classes, report.size) == (1000, 224)
    assert report.mean == report.std == (0.5, 0.5, 0.5)
    assert same_outputs(network, library)


@pytest.mark.parametrize(
    ("asked", "taken", "terms", "size"),
    [
        (
            "vit_small_patch16_dinov3.lvd1689m",
            "vit_small_patch16_dinov3_qkvb.lvd1689m",
            "DINOv3",
            None,
        ),
        ("vit_small_patch14_dinov2.lvd142m", "vit_small_patch14_dinov2.lvd142m", "apache", None),
        ("vit_base_patch16_clip_224.openai", "vit_base_patch16_clip_quickgelu_224.openai", "", 224),
        ("vit_base_patch16_clip_224.laion2b", "vit_base_patch16_clip_224.laion2b", "", 224),
        ("vit_base_patch16_224.mae", "vit_base_patch16_224.mae", "cc-by-nc", 224),
    ],
)
def test_a_name_of_timm_gives_what_its_authors_compute(asked, taken, terms, size, monkeypatch):
    create_model, given = timm.create_model, []

    def downloaded(name, *, pretrained, **options):
        given.append((name, pretrained))
        return create_model(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", downloaded)
    network, report = load_backbone(f"timm/{asked}")
    assert (taken, True) in given and report.spec.arch == f"timm/{taken}"
    assert network.global_pool == "token"
    assert terms in report.terms.license and report.size == size
    config = timm.get_pretrained_cfg(taken)
    assert (report.mean, report.std) == (config.mean, config.std)
    source = report.provenance.to_dict()
    assert source["source"] == f"timm/{asked}" and "license_of" not in source


def test_timm_without_a_network_names_the_remedy(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to the hub")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(ValueError, match=r"could not be downloaded: no route .* the file's path"):
        load_backbone("timm/mobilenetv1_100")
