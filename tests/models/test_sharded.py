"""A network in several files is that of one file; an index leads nowhere else."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mgd_ssl.models import create_backbone, load_backbone

INDEX = "model.safetensors.index.json"
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def write_sharded(folder: Path) -> dict[str, torch.Tensor]:
    """A ResNet in two shards and an index, as Hugging Face's libraries write them."""
    torch.manual_seed(0)
    state = create_backbone("resnet18", width=0.125).state_dict()
    keys = list(state)
    parts = keys[: len(keys) // 2], keys[len(keys) // 2 :]
    for name, part in zip(SHARDS, parts, strict=True):
        save_file({key: state[key] for key in part}, folder / name)
    places = {k: name for name, part in zip(SHARDS, parts, strict=True) for k in part}
    write_index(folder, places)
    return state


def write_index(folder: Path, places: object) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))


def read_index(folder: Path) -> dict[str, str]:
    places: dict[str, str] = json.loads((folder / INDEX).read_text())["weight_map"]
    return places


@pytest.mark.parametrize("given", ["", INDEX])
def test_the_folder_and_the_index_stand_for_all_shards(given: str, tmp_path: Path) -> None:
    state = write_sharded(tmp_path)
    network, report = load_backbone(tmp_path / given)
    loaded = network.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    assert report.path == tmp_path / INDEX
    assert report.sha256 == {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for name in [INDEX, *SHARDS]
    }


def test_a_folder_with_one_file_stands_for_it(tmp_path: Path) -> None:
    state = create_backbone("resnet18", width=0.125).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    assert load_backbone(tmp_path)[1].path == tmp_path / "model.safetensors"


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_sharded(tmp_path)
    (tmp_path / SHARDS[1]).unlink()
    with pytest.raises(ValueError, match=f"names {SHARDS[1]}, which is not beside it; .* 2 files"):
        load_backbone(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["../model.safetensors", "/etc/passwd", "sub/a.safetensors", "model.pt", 3, ".safetensors"],
)
def test_an_index_names_no_path(name: object, tmp_path: Path) -> None:
    write_sharded(tmp_path)
    places: dict[str, object] = dict(read_index(tmp_path))
    places["conv1.weight"] = name
    write_index(tmp_path, places)
    with pytest.raises(ValueError, match=r"weight_map, conv1\.weight: got .* in the same folder"):
        load_backbone(tmp_path)


def test_a_shard_is_no_index_of_itself(tmp_path: Path) -> None:
    places = dict.fromkeys(write_sharded(tmp_path), SHARDS[0])
    write_index(tmp_path, places)
    (tmp_path / INDEX).rename(tmp_path / SHARDS[0])
    with pytest.raises(ValueError, match=f"{SHARDS[0]} is no checkpoint that can be read"):
        load_backbone(tmp_path / SHARDS[0])


@pytest.mark.parametrize("places", [{}, [], None, "model.safetensors"])
def test_an_index_without_entries_is_refused(places: object, tmp_path: Path) -> None:
    write_index(tmp_path, places)
    with pytest.raises(ValueError, match="got no entries"):
        load_backbone(tmp_path)


def test_an_entry_that_its_shard_lacks_is_named(tmp_path: Path) -> None:
    write_sharded(tmp_path)
    places = read_index(tmp_path)
    write_index(tmp_path, places | {"fc.weight": SHARDS[0]})
    with pytest.raises(ValueError, match=r"lacks fc\.weight, which the index says is in it"):
        load_backbone(tmp_path)


def test_an_entry_that_the_index_does_not_name_is_anothers(tmp_path: Path) -> None:
    write_sharded(tmp_path)
    places = read_index(tmp_path)
    del places["conv1.weight"]
    write_index(tmp_path, places)
    with pytest.raises(ValueError, match=r"holds conv1\.weight, of which the index knows nothing"):
        load_backbone(tmp_path)
