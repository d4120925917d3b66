"""Cars196 (Krause et al. 2013): the first 98 of its 196 models train."""

from __future__ import annotations

from pathlib import Path

from ...files import reading
from ..images import Collection
from .listed import Row, collect
from .matlab import cells, records
from .published import Layout, Published, locate

NAMES = "cars_meta.mat"  # beside the devkit's annotations, and not needed
DEVKIT = ("devkit", "car_devkit/devkit", "")  # as the archive has it, as a well-known mirror, beside the images


def in_devkit(name: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}".lstrip("/") for folder in DEVKIT)


PUBLISHED = Published(
    name="Cars196",
    page="Stanford Cars, ai.stanford.edu/~jkrause/cars/car_dataset.html",
    folders=("cars196", "stanford_cars", "cars"),
    layouts=(
        Layout("cars_annos.mat beside car_ims/", {"all": ("cars_annos.mat",), "images": ("car_ims",)}),
        Layout(
            "cars_train/, cars_test/, cars_train_annos.mat and cars_test_annos_withlabels.mat, these in devkit/ or not",
            {
                "train": in_devkit("cars_train_annos.mat"),
                "test": in_devkit("cars_test_annos_withlabels.mat"),
                "images of train": ("cars_train",),
                "images of test": ("cars_test",),
            },
        ),
    ),
)


def load(path: str | None, _image_size: int) -> Collection:
    """Classes by their numbers. The lists to train and to test classifiers on, which halve every class, are pooled."""
    files = locate(path, PUBLISHED)
    if "all" in files:
        rows = annotated(files["all"], "relative_im_path", files["images"].parent)
        names = class_names(files["all"])
    else:
        rows = [row for part in ("train", "test") for row in annotated(files[part], "fname", images(files, part))]
        names = class_names(files["train"].with_name(NAMES))
    return collect(rows, names)


def images(files: dict[str, Path], part: str) -> Path:
    """The folder with the images, which some archives hold in another one of that name."""
    folder = files[f"images of {part}"]
    inner = folder / folder.name
    return inner if inner.is_dir() else folder


def annotated(file: Path, column: str, folder: Path) -> list[Row]:
    """The images of the struct array `annotations`: the path of each is in that column, its class in `class`."""
    with reading(file, "annotations of Cars196"):
        found = records(file, "annotations", (column, "class"))
        if not found:
            raise ValueError("it has no annotated images")
        return [Row(folder / text(name), whole(number)) for name, number in found]


def class_names(file: Path) -> dict[int, str]:
    """By the numbers of the classes, from 1; nothing if the file has none."""
    if not file.exists():
        return {}
    with reading(file, "class names of Cars196"):
        return {number: text(name) for number, name in enumerate(cells(file, "class_names"), 1)}


def text(value: str | float) -> str:
    if not isinstance(value, str):
        raise ValueError("it has a number where a name was expected")
    return value


def whole(value: str | float) -> int:
    if isinstance(value, str) or not float(value).is_integer():
        raise ValueError("it has an image whose class is no whole number")
    return int(value)
