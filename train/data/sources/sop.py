"""Stanford Online Products (Song et al. 2016): 11,318 products train, 11,316 others test."""

from __future__ import annotations

from pathlib import Path

from ...files import reading
from ..images import Collection
from .listed import Row, collect, fields, whole_number
from .published import Layout, Published, locate

HEADER = "image_id class_id super_class_id path"
PUBLISHED = Published(
    name="Stanford Online Products",
    page="Stanford Online Products, cvgl.stanford.edu/projects/lifted_struct",
    folders=("Stanford_Online_Products", "SOP"),
    layouts=(
        Layout(
            "Ebay_train.txt and Ebay_test.txt beside the folders of images",
            {"train": ("Ebay_train.txt",), "test": ("Ebay_test.txt",)},
        ),
    ),
)


def load(path: str | None, _image_size: int) -> Collection:
    """Classes by their numbers, halved as the two lists say."""
    files = locate(path, PUBLISHED)
    rows = [row for part, file in files.items() for row in listed(file, part)]
    with reading(files["test"], "a list of images"):
        return collect(rows)


def listed(file: Path, part: str) -> list[Row]:
    with reading(file, "a list of images"):
        lines = enumerate(fields(file, HEADER), 2)
        return [Row(file.parent / path, whole_number(label, line), part) for line, (_, label, _, path) in lines]
