"""Small COCO folders on disk, written by the tests."""

import json
from pathlib import Path
from typing import Any

from image_files import photo, save

SAMPLE = Path(__file__).parent / "detection_sample"


def box(image: int, category: int, *bbox: float, **more: Any) -> dict[str, Any]:
    """An annotation; ``bbox`` x, y, width, height in pixels."""
    return {"image_id": image, "category_id": category, "bbox": list(bbox), **more}


def instances(count: int, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    """COCO's dictionary of images 1.png, 2.png, ... 48 wide, 40 high, and categories 3, 7, 20."""
    images = [
        {"id": 10 * i, "file_name": f"{i}.png", "width": 48, "height": 40}
        for i in range(1, count + 1)
    ]
    # not in the order of the ids
    categories = [{"id": 20, "name": "hat"}, {"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_split(root: Path, data: dict[str, Any] | str | None, name: str = "train") -> Path:
    """Images 1.png to 3.png in ``root/name`` and, unless it is None, ``data`` as annotations."""
    for i in (1, 2, 3):
        save(root / name / f"{i}.png", photo(i))
    if data is not None:
        file = root / "annotations" / f"instances_{name}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(data if isinstance(data, str) else json.dumps(data))
    return root
