"""In-shop Clothes Retrieval of DeepFashion (Liu et al. 2016): 3,997 items train, queries of 3,985 search a gallery."""

from __future__ import annotations

from pathlib import Path

from ...files import reading
from ..images import Collection
from .listed import Row, collect, fields
from .published import Layout, Published, locate

LIST = "list_eval_partition.txt"
HEADER = "image_name item_id evaluation_status"
PUBLISHED = Published(
    name="In-shop Clothes Retrieval",
    page="In-shop Clothes Retrieval Benchmark of DeepFashion, mmlab.ie.cuhk.edu.hk/projects/DeepFashion",
    folders=("Inshop_Clothes", "In-shop Clothes Retrieval Benchmark", "inshop"),
    layouts=(
        Layout(
            "list_eval_partition.txt, in Eval/, Anno/ or not, beside Img/img/, img/ or the same as img_highres/",
            {
                "list": (f"Eval/{LIST}", f"Anno/{LIST}", LIST),
                "images": ("Img/img", "img", "Img/img_highres", "img_highres"),
            },
        ),
    ),
)


def load(path: str | None, _image_size: int) -> Collection:
    """Classes by the names of the items. The list is a count, a header and the images."""
    files = locate(path, PUBLISHED)
    with reading(files["list"], "a list of images"):
        rows = fields(files["list"], HEADER, skip=1)
        return collect([Row(files["images"] / below(name), item, part) for name, item, part in rows])


def below(name: str) -> Path:
    """Of img/WOMEN/... what lies in img."""
    return Path(*Path(name).parts[1:])
