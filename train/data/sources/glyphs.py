"""The embedded data set: characters drawn with the typefaces that come with matplotlib. No download.

A class is a code point, its images are its drawings in 10 to 16 typefaces, each with its own random rotation
(up to 25 degrees), shear, scale and shift. All of it follows from the seed: each image has its own generator,
seeded by (seed, code point, typeface), so neither the image size nor a missing typeface moves the others.

What makes the classes well defined:

* Letters, digits and symbols without a Unicode decomposition, so that no class is another one with an accent.
  Braille, box drawing and block elements are left out: they differ by position only, which a drawing of
  random place and scale does not show.
* Every drawing is scaled to one extent before it is distorted, so size carries no information.
* A code point whose drawing looks like that of an earlier one, at the same extent and after a rotation of up
  to 50 degrees (two drawings may be turned against each other), is dropped: Greek Alpha and Cyrillic A look
  like A, o like O, c like C, x like X, the minus like the hyphen. Of such a group the lowest code point
  stays. Other proportions make another class: 0 is narrower than O.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...errors import UserError
from ...files import replacing
from ..images import Collection
from . import arrays

TYPEFACES = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
)
MIN_TYPEFACES = 10
CATEGORIES = ("Lu", "Ll", "Lo", "Nd", "Nl", "No", "Sm", "Sc", "So", "Po")
POSITION_ONLY = range(0x2500, 0x25A0), range(0x2800, 0x2900)

ROTATION = 25.0  # degrees, either way
SHEAR = 0.3
SCALE = 0.2  # each axis, natural logarithm
SHIFT = 0.12  # of the image's side
EXTENT = 0.55  # longer side of an undistorted drawing, of the image's side

LOOKALIKE = 0.9  # correlation of two canonical drawings
VERSION = 1  # of this recipe; part of the cache's name


def load(_path: str | None, image_size: int) -> Collection:
    x, code_points = drawings(image_size)
    classes, labels = np.unique(code_points, return_inverse=True)
    return Collection(x, labels, [f"U+{c:04X} {chr(c)}" for c in classes])


def drawings(size: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, size, size], dark on white, and their code points int64 [n], grouped by class.

    Cached in $METRIX_CACHE, or else $XDG_CACHE_HOME/metrix_ext, or else ~/.cache/metrix_ext. A damaged cache
    is built anew; one that cannot be written costs a line on stderr and the seconds of building each time.
    """
    path = cache_path(size, seed)
    try:
        if os.path.exists(path):
            return arrays.read(path)
    except UserError as error:
        print(f"glyphs: building it anew, {error}", file=sys.stderr)
    x, y = build(size, seed)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.savez_compressed(file, x=x, y=y)
    except OSError as error:
        print(f"glyphs: not cached, {path.parent} cannot be written ({error.strerror})", file=sys.stderr)
    return x, y


def cache_path(size: int, seed: int) -> Path:
    import matplotlib
    import PIL

    root = os.environ.get("METRIX_CACHE")
    if not root:
        root = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "metrix_ext")
    versions = f"v{VERSION}-matplotlib{matplotlib.__version__}-pillow{PIL.__version__}"
    return Path(root) / f"glyphs-{versions}-{size}px-seed{seed}.npz"


def build(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    fonts = typefaces(pixels=2 * size)
    classes = distinct(candidates(fonts), fonts)
    images, labels = [], []
    for code_point in classes:
        for index, (font, covered) in enumerate(fonts):
            ink = draw(font, code_point) if code_point in covered else None
            if ink is not None:
                rng = np.random.default_rng((seed, code_point, index))
                images.append(place(ink, size, *distortion(rng)))
                labels.append(code_point)
    return 255 - np.stack(images), np.array(labels, dtype=np.int64)


def typefaces(pixels: int) -> list[tuple[ImageFont.FreeTypeFont, frozenset[int]]]:
    """Each typeface at that size with the code points that it has a glyph for."""
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font

    folder = Path(get_data_path()) / "fonts" / "ttf"
    fonts = []
    for name in TYPEFACES:
        file = str(folder / f"{name}.ttf")
        glyph_of = FT2Font(file).get_charmap()
        covered = frozenset(code_point for code_point, glyph in glyph_of.items() if glyph != 0)
        # The basic layout engine is always there, and shapes nothing: one code point, one glyph.
        fonts.append((ImageFont.truetype(file, pixels, layout_engine=ImageFont.Layout.BASIC), covered))
    return fonts


def candidates(fonts: list[tuple[ImageFont.FreeTypeFont, frozenset[int]]]) -> list[int]:
    everything = sorted(set().union(*(covered for _, covered in fonts)))
    return [
        code_point
        for code_point in everything
        if sum(code_point in covered for _, covered in fonts) >= MIN_TYPEFACES
        and unicodedata.category(chr(code_point)) in CATEGORIES
        and not unicodedata.decomposition(chr(code_point))
        and not any(code_point in block for block in POSITION_ONLY)
    ]


def distinct(code_points: list[int], fonts: list[tuple[ImageFont.FreeTypeFont, frozenset[int]]]) -> list[int]:
    """Without the code points that are blank or look like an earlier one in either of two typefaces."""
    keep = dict.fromkeys(code_points)
    for font, covered in (fonts[0], fonts[TYPEFACES.index("DejaVuSerif")]):
        drawn = {c: draw(font, c) for c in keep if c in covered}
        blank = [c for c, ink in drawn.items() if ink is None]
        inks = {c: ink for c, ink in drawn.items() if ink is not None}
        alike = np.max([correlations(list(inks.values()), angle) for angle in range(-50, 51, 10)], axis=0)
        kept: list[int] = []
        for row in range(len(inks)):
            if not kept or alike[row, kept].max() < LOOKALIKE:
                kept.append(row)
        names = list(inks)
        dropped = set(names).difference(names[row] for row in kept).union(blank)
        keep = {c: None for c in keep if c not in dropped}
    return list(keep)


def correlations(inks: list[Image.Image], angle: float, size: int = 24) -> np.ndarray:
    """[n, n] correlation of each drawing with every other turned by the angle."""

    def canonical(turn: float) -> np.ndarray:
        flat = np.stack([place(ink, size, np.eye(2), np.zeros(2), turn) for ink in inks])
        flat = flat.reshape(len(inks), -1).astype(np.float32)
        flat -= flat.mean(1, keepdims=True)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    return canonical(0.0) @ canonical(angle).T


def draw(font: ImageFont.FreeTypeFont, code_point: int) -> Image.Image | None:
    """The character's ink, cropped to it; None if there is none."""
    left, top, right, bottom = font.getbbox(chr(code_point))
    if right <= left or bottom <= top:
        return None
    canvas = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(canvas).text((-left, -top), chr(code_point), fill=255, font=font)
    box = canvas.getbbox()
    return canvas.crop(box) if box else None


def distortion(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """(shear and scale [2, 2], shift [2], rotation in degrees) of one image."""
    rotation = rng.uniform(-ROTATION, ROTATION)
    shear = rng.uniform(-SHEAR, SHEAR)
    scale = np.exp(rng.uniform(-SCALE, SCALE, size=2))
    return np.array([[scale[0], shear], [0.0, scale[1]]]), rng.uniform(-SHIFT, SHIFT, size=2), rotation


def place(ink: Image.Image, size: int, linear: np.ndarray, shift: np.ndarray, rotation: float) -> np.ndarray:
    """The ink scaled to EXTENT, distorted about its centre: uint8 [size, size], light on black."""
    angle = np.deg2rad(rotation)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    fine = 2 * size  # drawn at twice the size and averaged: Pillow's affine transform does not smooth
    forward = turn @ linear * (EXTENT * fine / max(ink.size))
    # Pillow asks for the way back: where in the ink a pixel of the picture comes from.
    back = np.linalg.inv(forward)
    offset = np.array(ink.size) / 2 - back @ (fine / 2 + shift * fine)
    matrix = (*back[0], offset[0], *back[1], offset[1])
    image = ink.transform((fine, fine), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(image.reduce(2))
