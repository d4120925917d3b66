"""The data sets by name, and what the command line and the recipe have to know of each.

The images of NAME come from `load(path, image_size)` of `sources/NAME.py`, which returns a Collection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DataSet:
    help: str  # of --dataset, after the name
    needs_path: bool = True  # --data says where it lies
    from_files: bool = True  # every image is decoded anew each time, in worker processes
    photographs: bool = True  # ImageNet weights, 224 pixels, random crops and flips; otherwise characters
    pixel_baseline: bool = False  # all images have one size: what raw pixels find is measured too
    largest_image: int = 4096  # pixels of a side
    split: str = "random"  # of its classes, where it does not list its halves: by a seed, or by their "order"
    protocol: str = "self"  # unseen images search one another, or "query-gallery"
    counts: Mapping[str, int] | None = None  # of images and classes, if it is published with these


DATA_SETS = {
    "glyphs": DataSet(
        "characters, no download",
        needs_path=False,
        from_files=False,
        photographs=False,
        pixel_baseline=True,
        largest_image=256,  # all of them are in memory
    ),
    "npz": DataSet("--data FILE with x uint8 [n, h, w(, 3)] and y int [n]", from_files=False),
    "folder": DataSet("--data DIR with a folder of images per class, or a table as for csv"),
    "csv": DataSet("--data FILE, a .csv or .parquet of path,label[,split]"),
    "cub200": DataSet(
        "--data DIR with CUB_200_2011",
        split="order",
        counts={"train_images": 5864, "train_classes": 100, "test_images": 5924, "test_classes": 100},
    ),
    "cars196": DataSet(
        "--data DIR with cars_annos.mat and car_ims, or with the devkit, cars_train and cars_test",
        split="order",
        counts={"train_images": 8054, "train_classes": 98, "test_images": 8131, "test_classes": 98},
    ),
    "sop": DataSet(
        "--data DIR with Stanford_Online_Products",
        counts={"train_images": 59_551, "train_classes": 11_318, "test_images": 60_502, "test_classes": 11_316},
    ),
    "inshop": DataSet(
        "--data DIR with Inshop_Clothes",
        protocol="query-gallery",
        counts={
            "train_images": 25_882,
            "train_classes": 3_997,
            "test_images": 14_218,
            "gallery_images": 12_612,
            "test_classes": 3_985,
        },
    ),
}
