"""Caltech-UCSD Birds 200-2011 (Wah et al. 2011): the first 100 of its 200 species train."""

from __future__ import annotations

from pathlib import Path

from ...files import reading
from ..images import Collection
from . import folder
from .listed import Row, collect, lines, split, whole_number
from .published import Layout, Published, locate

PUBLISHED = Published(
    name="CUB-200-2011",
    page="Caltech-UCSD Birds-200-2011, www.vision.caltech.edu/datasets/cub_200_2011",
    folders=("CUB_200_2011", "CUB200", "CUB"),
    layouts=(
        Layout(
            "images.txt and image_class_labels.txt beside images/",
            {"paths": ("images.txt",), "classes": ("image_class_labels.txt",), "images": ("images",)},
        ),
        Layout(
            "images/ alone with a folder per class",  # their names begin with the number of the class
            {"images": ("images",)},
            unless=("images.txt", "image_class_labels.txt"),
        ),
    ),
)


def load(path: str | None, image_size: int) -> Collection:
    """Classes by their numbers. train_test_split.txt, which halves every class, is of another task and not read."""
    files = locate(path, PUBLISHED)
    if "paths" not in files:
        return folder.load(str(files["images"]), image_size)
    with reading(files["paths"], "a list of images"):
        paths = by_image(files["paths"], ("image_id", "path"))
    with reading(files["classes"], "a list of classes"):
        labels = by_image(files["classes"], ("image_id", "class_id"))
        classes = {image: whole_number(label, line) for line, (image, label) in enumerate(labels.items(), 1)}
        if odd := classes.keys() ^ paths.keys():
            raise ValueError(f"image {min(odd)} is either not in it or not in {files['paths'].name}")
        rows = [Row(files["images"] / path, classes[image]) for image, path in paths.items()]
        # A species has its name in that of its folder: 001.Black_footed_Albatross.
        return collect(rows, {classes[image]: Path(path).parent.name or path for image, path in paths.items()})


def by_image(file: Path, header: tuple[str, str]) -> dict[int, str]:
    """What the list says of each image."""
    found: dict[int, str] = {}
    for number, line in enumerate(lines(file), 1):
        image, value = split(line, header, number)
        if (index := whole_number(image, number)) in found:
            raise ValueError(f"line {number} lists image {image} again")
        found[index] = value
    return found
