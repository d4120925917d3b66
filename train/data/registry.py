"""The data sets by name, and what the command line and the recipe have to know of each.

The images of NAME come from `load(path, image_size)` of `sources/NAME.py`, which returns a Collection.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSet:
    help: str  # of --dataset, after the name
    needs_path: bool = True  # --data says where it lies
    from_files: bool = True  # every image is decoded anew each time, in worker processes
    photographs: bool = True  # ImageNet weights, 224 pixels, random crops and flips; otherwise characters
    pixel_baseline: bool = False  # all images have one size: what raw pixels find is measured too
    largest_image: int = 4096  # pixels of a side


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
    "folder": DataSet("--data DIR with a folder of images per class"),
}
