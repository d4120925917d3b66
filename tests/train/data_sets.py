"""Small trees of real JPEGs in the formats of the published data sets.

Each class has a colour of its own, which every image shows in its middle, before a background of its own: a small
network has something to learn.
`classes` and `per_class` are the numbers of classes and of images of each, over both halves. All return the data
set's folder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

BOX = {f"bbox_{side}": 1 for side in ("x1", "y1", "x2", "y2")}


def draw(path: Path, label: int, number: int, size: int = 40) -> None:
    """One image, wider than high; all of it follows from the class and the number."""
    rng = np.random.default_rng((label, number))
    pixels = np.tile(rng.integers(0, 256, 3), (size, size + 8, 1))
    middle(pixels)[:] = colour(label)
    pixels = np.clip(pixels + rng.normal(0, 15, pixels.shape), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95, subsampling=0)


def colour(label: int) -> np.ndarray:
    return np.random.default_rng(label).integers(24, 232, 3)


def middle(pixels: np.ndarray) -> np.ndarray:
    """The part of an image [h, w, 3] with the colour of its class, half of either side."""
    height, width = len(pixels) // 4, pixels.shape[1] // 4
    return pixels[height:-height, width:-width]


def make_cub200(root: Path, classes: int = 8, per_class: int = 6, size: int = 40, lists: bool = True) -> Path:
    """Folders, and two lists by the number of the image; lists=False leaves these out, as older archives do."""
    folder = root / "CUB_200_2011"
    paths, labels = [], []
    for label in range(1, classes + 1):
        for number in range(per_class):
            name = f"{label:03}.Bird_{label}/Bird_{label}_{number:04}.jpg"
            draw(folder / "images" / name, label, number, size)
            paths.append(f"{len(paths) + 1} {name}\n")
            labels.append(f"{len(labels) + 1} {label}\n")
    if lists:
        (folder / "images.txt").write_text("".join(paths))
        (folder / "image_class_labels.txt").write_text("".join(labels))
        (folder / "classes.txt").write_text("".join(f"{c} {c:03}.Bird_{c}\n" for c in range(1, classes + 1)))
        (folder / "train_test_split.txt").write_text("".join(f"{i + 1} {i % 2}\n" for i in range(len(paths))))
    return folder


def make_cars196(root: Path, variant: str = "a", classes: int = 8, per_class: int = 6, size: int = 40) -> Path:
    """variant "a": one annotation file and car_ims/. "b": the devkit, every class in cars_train/ and cars_test/."""
    folder = root / ("cars196" if variant == "a" else "stanford_cars")
    labelled = [(label, number) for label in range(1, classes + 1) for number in range(per_class)]
    if variant == "a":
        records = [{"relative_im_path": f"car_ims/{i:06}.jpg"} for i in range(1, len(labelled) + 1)]
        for (label, number), record in zip(labelled, records, strict=True):
            draw(folder / record["relative_im_path"], label, number, size)
            record.update(**BOX, **{"class": label, "test": number % 2})
        write_annotations(folder / "cars_annos.mat", records, names=[f"Car {c}" for c in range(1, classes + 1)])
        return folder
    files = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
    for odd, (part, file) in enumerate(files.items()):
        records = []
        for label, number in labelled:
            if number % 2 == odd:
                name = f"{len(records) + 1:05}.jpg"
                draw(folder / f"cars_{part}" / name, label, number, size)
                records.append({**BOX, "class": label, "fname": name})
        write_annotations(folder / file, records)
    names = np.array([f"Car {c}" for c in range(1, classes + 1)], object)[None]
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})
    return folder


def write_annotations(path: Path, records: list[dict], names: list[str] | None = None) -> None:
    """A struct array [1, n], whose numbers are of the types that the published files have."""
    array = np.empty((1, len(records)), [(field, object) for field in records[0]])
    for i, record in enumerate(records):
        for field, value in record.items():
            array[0, i][field] = value if isinstance(value, str) else np.uint8(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    also = {} if names is None else {"class_names": np.array(names, object)[None]}
    savemat(path, {"annotations": array, **also}, do_compression=True)


def make_sop(root: Path, classes: int = 8, per_class: int = 6, size: int = 40) -> Path:
    """The larger half of the classes trains; per_class images of each, a folder for every second class."""
    folder = root / "Stanford_Online_Products"
    image = 0
    for part, labels in halved(classes).items():
        rows = ["image_id class_id super_class_id path\n"]
        for label in labels:
            for number in range(per_class):
                image += 1
                kind = label % 2
                name = f"{('bicycle', 'toaster')[kind]}_final/{label:012}_{number}.JPG"
                draw(folder / name, label, number, size)
                rows.append(f"{image} {label} {kind + 1} {name}\n")
        (folder / f"Ebay_{part}.txt").write_text("".join(rows))
    return folder


def make_inshop(
    root: Path, classes: int = 8, per_class: int = 6, size: int = 40,
    name: str = "Inshop_Clothes", list_in: str = "Eval", images_in: str = "Img/img",
) -> Path:  # fmt: skip
    """The larger half of the items trains; the first half of each other item's images are queries, the rest gallery."""
    folder = root / name
    rows = []
    for part, labels in halved(classes).items():
        for label in labels:
            for number in range(per_class):
                item = f"id_{label:08}"
                image = f"WOMEN/Dresses/{item}/{number + 1:02}_1_front.jpg"
                draw(folder / images_in / image, label, number, size)
                status = "train" if part == "train" else "query" if number < per_class // 2 else "gallery"
                rows.append(f"img/{image} {item} {status}\n")
    path = folder / list_in / "list_eval_partition.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{len(rows)}\nimage_name item_id evaluation_status\n{''.join(rows)}")
    return folder


def halved(classes: int) -> dict[str, range]:
    """The numbers of the classes of each half."""
    training = (classes + 1) // 2
    return {"train": range(1, training + 1), "test": range(training + 1, classes + 1)}


MAKERS = {
    "cub200": make_cub200,
    "cars196": make_cars196,
    "sop": make_sop,
    "inshop": make_inshop,
}
