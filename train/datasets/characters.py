"""Chinese characters and Korean syllables in many typefaces: a class is a character, its images are typefaces.

Classes differ by a stroke, images of one class by weight, texture and hand. Typefaces are packages of Fontsource
(https://fontsource.org), each with a licence of its own.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import UserError
from .drawings import SIDE, Drawing, choose
from .packages import Package, opened, permissive
from .store import DrawnSet, Source

EM = 54  # pixels


@dataclass(frozen=True)
class Block:
    """Of Unicode. classes: drawn from the characters that at least so many typefaces have."""

    code_points: range
    classes: int
    typefaces: int


BLOCKS = (
    Block(range(0x4E00, 0xA000), classes=1000, typefaces=12),  # CJK Unified Ideographs
    Block(range(0xAC00, 0xD7A4), classes=500, typefaces=8),  # Hangul Syllables
)


@dataclass(frozen=True)
class Cut:
    """One file of a package."""

    package: Package
    script: str
    weight: int

    @property
    def name(self) -> str:
        return self.package.name.rpartition("/")[2]

    @property
    def path(self) -> str:
        return f"files/{self.name}-{self.script}-{self.weight}-normal.woff2"


CUTS = tuple(
    Cut(Package(f"@fontsource/{name}", version), script, weight)
    for name, version, script, weight in (
        ("biz-udpgothic", "5.3.0", "japanese", 400),
        ("dela-gothic-one", "5.3.0", "japanese", 400),
        ("dotgothic16", "5.3.0", "japanese", 400),
        ("kaisei-opti", "5.2.8", "japanese", 700),
        ("kiwi-maru", "5.3.0", "japanese", 300),
        ("kosugi-maru", "5.3.0", "japanese", 400),
        ("line-seed-jp", "5.3.1", "japanese", 800),
        ("mochiy-pop-one", "5.3.0", "japanese", 400),
        ("sawarabi-gothic", "5.3.1", "japanese", 400),
        ("yusei-magic", "5.3.0", "japanese", 400),
        ("zen-kurenaido", "5.3.0", "japanese", 400),
        ("liu-jian-mao-cao", "5.3.0", "chinese-simplified", 400),
        ("long-cang", "5.3.0", "chinese-simplified", 400),
        ("ma-shan-zheng", "5.3.1", "chinese-simplified", 400),
        ("zcool-kuaile", "5.3.0", "chinese-simplified", 400),
        ("zcool-qingke-huangyou", "5.3.0", "chinese-simplified", 400),
        ("zcool-xiaowei", "5.3.0", "chinese-simplified", 400),
        ("zhi-mang-xing", "5.3.0", "chinese-simplified", 400),
        ("black-han-sans", "5.3.0", "korean", 400),
        ("gaegu", "5.3.0", "korean", 700),
        ("gowun-batang", "5.3.0", "korean", 400),
        ("gugi", "5.3.0", "korean", 400),
        ("nanum-brush-script", "5.3.0", "korean", 400),
        ("nanum-gothic", "5.3.0", "korean", 400),
        ("nanum-myeongjo", "5.3.0", "korean", 800),
        ("nanum-pen-script", "5.3.0", "korean", 400),
        ("poor-story", "5.3.0", "korean", 400),
        ("sunflower", "5.3.1", "korean", 300),
    )
)
PACKAGES = tuple(cut.package for cut in CUTS)


@dataclass(frozen=True)
class Typeface:
    """covered: the code points that it has a glyph for."""

    source: Source
    covered: frozenset[int]
    font: ImageFont.FreeTypeFont


def draw(folder: Path) -> DrawnSet:
    """From the packages in the folder."""
    typefaces = [read(cut, folder) for cut in CUTS]
    skipped: Counter[str] = Counter()
    drawings = list(drawn(typefaces, chosen(typefaces, BLOCKS), skipped))
    return DrawnSet(choose(drawings, (), skipped), [typeface.source for typeface in typefaces], skipped)


def read(cut: Cut, folder: Path) -> Typeface:
    with opened(cut.package, folder) as archive:
        licence = archive.json("metadata.json")["license"]["type"]
        source = Source(cut.name, cut.package, permissive(licence, cut.package))
        return load(source, archive.read(cut.path))


def load(source: Source, woff2: bytes) -> Typeface:
    try:
        import brotli  # noqa: F401  what fontTools unpacks a .woff2 with
        from fontTools.ttLib import TTFont
    except ImportError:
        raise UserError("characters need fonttools and brotli: pip install 'metrix_ext[datasets]'") from None
    covered = frozenset(TTFont(io.BytesIO(woff2), lazy=True).getBestCmap())
    font = ImageFont.truetype(io.BytesIO(woff2), EM, layout_engine=ImageFont.Layout.BASIC)
    return Typeface(source, covered, font)


def chosen(typefaces: Sequence[Typeface], blocks: Sequence[Block]) -> list[int]:
    """Code points, in an order that has nothing to do with their shapes and is the same everywhere."""
    found = Counter(code for typeface in typefaces for code in typeface.covered)
    return [
        code
        for block in blocks
        for code in sorted((c for c in block.code_points if found[c] >= block.typefaces), key=shuffled)[: block.classes]
    ]


def shuffled(code_point: int) -> bytes:
    return hashlib.blake2b(code_point.to_bytes(4, "big")).digest()


def drawn(typefaces: Sequence[Typeface], code_points: Sequence[int], skipped: Counter[str]) -> Iterator[Drawing]:
    for typeface in typefaces:
        for code in code_points:
            if code not in typeface.covered:
                continue
            try:
                image = picture(typeface.font, chr(code))
            except OSError:
                skipped["damaged outlines"] += 1
                continue
            if image.min() == image.max():
                skipped["blank drawings"] += 1
            else:
                yield Drawing(f"{code:04X}", typeface.source.name, image)


def picture(font: ImageFont.FreeTypeFont, character: str) -> np.ndarray:
    """uint8 [SIDE, SIDE, 3], black on white, in the middle: across by the width it takes in a line, down by its ink."""
    left, top, right, bottom = font.getbbox(character)
    image = Image.new("L", (SIDE, SIDE), 255)
    place = ((SIDE - left - right) / 2, (SIDE - top - bottom) / 2)
    ImageDraw.Draw(image).text(place, character, fill=0, font=font)
    return np.repeat(np.asarray(image)[..., None], 3, axis=2)
