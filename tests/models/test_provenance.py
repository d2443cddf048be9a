"""A loaded file's name, hash and terms are what they are, and say whose they are."""

import hashlib
import json

import torch
from official_files import dinov2_shapes, random_state
from safetensors.torch import save_file

from mgd_ssl.models import create_backbone, load_backbone

TERMS = {"license": "Apache-2.0", "license_of": "weights that Meta publishes in this layout"}


def test_a_file_is_known_by_its_name_its_hash_and_its_network(tmp_path):
    path = tmp_path / "dinov2_vits14_pretrain.pth"
    torch.save(random_state(dinov2_shapes(128, 2, side=4)), path)
    _, report = load_backbone(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert report.provenance.to_dict() == {
        "source": "dinov2_vits14_pretrain.pth",
        "layout": "dinov2",
        "network": report.spec.to_dict(),
        "sha256": {"dinov2_vits14_pretrain.pth": digest},
        **TERMS,
    }
    assert f"sha256 {digest[:16]}…" in str(report)
    assert "license, as Meta publishes it: Apache-2.0" in str(report)


def test_no_terms_are_said_of_weights_whose_publisher_is_not_known(tmp_path):
    torch.save(create_backbone("resnet18", width=0.125).state_dict(), tmp_path / "own.pt")
    _, report = load_backbone(tmp_path / "own.pt")
    assert report.terms is None
    assert not {"license", "license_of", "obligation"} & report.provenance.to_dict().keys()


def test_a_students_file_says_whose_weights_it_learned_from(tmp_path):
    teacher = {"source": "teacher.pth", "layout": "dinov2", "sha256": {"teacher.pth": "00"}}
    metadata = {"provenance": json.dumps({"teacher": teacher})}
    save_file(create_backbone("resnet18", width=0.125).state_dict(), tmp_path / "s.safetensors")
    assert load_backbone(tmp_path / "s.safetensors")[1].learned_from == {}
    state = create_backbone("resnet18", width=0.125).state_dict()
    save_file(state, tmp_path / "s.safetensors", metadata)
    assert load_backbone(tmp_path / "s.safetensors")[1].learned_from == {"teacher": teacher}


def test_another_projects_entry_is_no_provenance(tmp_path):
    state = create_backbone("resnet18", width=0.125).state_dict()
    for entry in ("resnet50", 3, None, {"teacher": torch.zeros(2)}):
        torch.save({"state_dict": state, "provenance": entry}, tmp_path / "a.pt")
        assert load_backbone(tmp_path / "a.pt")[1].learned_from == {}
