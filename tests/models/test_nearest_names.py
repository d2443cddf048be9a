"""An unknown architecture is answered with the nearest names."""

import re

import pytest

from mgd_ssl.models import create_backbone


def test_each_nearest_architecture_is_named_once():
    with pytest.raises(ValueError, match="nearest: ") as caught:
        create_backbone("resnet81")
    names = re.split(", ", str(caught.value).partition("nearest: ")[2])
    assert len(names) == 3
    assert len(set(names)) == len(names)
