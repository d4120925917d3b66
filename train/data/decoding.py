"""From an image file to its pixels: upright, RGB, 8 bits each."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageChops

from ..files import reading

with suppress(ImportError):  # without this package Pillow reads no HEIC
    import_module("pillow_heif").register_heif_opener()

Image.init()
# Pillow knows more formats, but one of them starts Ghostscript, and others are no pictures.
KNOWN = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
FORMATS = tuple(name for name in KNOWN if name in Image.OPEN)
SUFFIXES = frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)
UNREADABLE_SUFFIXES = frozenset((".avif", ".heic", ".heif", ".jp2", ".jxl", ".webp")) - SUFFIXES
SNIFFED = tuple(name for name in FORMATS if name != "PPM")  # "P1" and "Py" begin many a text

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MOST_ELONGATED = 200  # the longer side over the shorter: the shorter one is resized to the network's input


def decode(path: Path) -> Image.Image:
    """The first picture of the file, RGB. Raises UserError with one line that names the file."""
    with reading(path, "an image"), Image.open(path, formats=FORMATS) as file:
        if max(file.size) > MOST_ELONGATED * min(file.size):
            raise ValueError(f"{file.width} x {file.height} pixels: one side is over {MOST_ELONGATED} times the other")
        file.load()
        return to_rgb(upright(file), file.format)


def is_image(path: Path) -> bool:
    """By its first bytes."""
    try:
        with Image.open(path, formats=SNIFFED):
            return True
    except Image.DecompressionBombError:
        return True
    except Exception:  # as many kinds as there are ways to be something else
        return False


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF orientation asks; damaged EXIF asks for nothing."""
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:
        return image
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image.Image, kind: str | None) -> Image.Image:
    """16 bits lose the lower 8, what is transparent shows white, and CMYK has ink where its file says so."""
    if image.mode.startswith("I;16") or (image.mode == "I" and kind == "PPM"):
        return grey(np.asarray(image), image.info.get("transparency"))
    if image.mode in ("I", "F"):
        raise ValueError("32 bits per pixel do not say what is white; convert it to 8 or 16")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode == "CMYK" and kind in ("JPEG", "MPO") and "adobe" not in image.info:
        # Pillow takes all JPEGs for Adobe's, in which 0 is full ink; in others it is none (libjpeg.txt, "Special color
        # spaces").
        image = ImageChops.invert(image)
    return image.convert("RGB")


def grey(values: np.ndarray, transparent: int | None) -> Image.Image:
    """Of 16 bits, one value of which may be transparent."""
    shown = np.where(values == transparent, 255, values >> 8)
    return Image.fromarray(shown.astype(np.uint8)).convert("RGB")
