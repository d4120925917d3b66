"""Characters: from the files of typefaces to drawings of code points."""

from __future__ import annotations

import io
import sys
from collections import Counter

import numpy as np
import pytest

from tests.train.datasets.packed import pack
from train.datasets import characters
from train.datasets.characters import Block, Cut, chosen
from train.datasets.drawings import SIDE
from train.datasets.packages import Package
from train.errors import UserError

pytest.importorskip("brotli")
builder = pytest.importorskip("fontTools.fontBuilder")
pens = pytest.importorskip("fontTools.pens.ttGlyphPen")

HAN, HANGUL = 0x4E00, 0xAC00
BLOCKS = (Block(range(HAN, HAN + 9), classes=2, typefaces=4),)


def woff2(glyphs: dict[int, tuple[int, int, int]]) -> bytes:
    """A typeface of 1000 units to the em whose glyphs are squares: left, bottom and side by code point."""
    names = {code: f"u{code:04X}" for code in glyphs}
    font = builder.FontBuilder(1000)
    font.setupGlyphOrder([".notdef", *names.values()])
    font.setupCharacterMap(names)
    font.setupGlyf({".notdef": outline(0, 0, 0)} | {names[code]: outline(*glyphs[code]) for code in glyphs})
    font.setupHorizontalMetrics(dict.fromkeys((".notdef", *names.values()), (1000, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.font.flavor = "woff2"
    data = io.BytesIO()
    font.save(data)
    return data.getvalue()


def outline(left: int, bottom: int, side: int):
    pen = pens.TTGlyphPen(None)
    if side:
        pen.moveTo((left, bottom))
        for x, y in ((left, bottom + side), (left + side, bottom + side), (left + side, bottom)):
            pen.lineTo((x, y))
        pen.closePath()
    return pen.glyph()


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """Draws from typefaces of these files, by number."""

    def draw(typefaces, licence="OFL-1.1", blocks=BLOCKS):
        cuts = tuple(Cut(Package(f"@art/f{i}", "1.0.0"), "korean", 300) for i in range(len(typefaces)))
        for cut, data in zip(cuts, typefaces, strict=True):
            files = {"metadata.json": {"license": {"type": licence}}, f"files/{cut.name}-korean-300-normal.woff2": data}
            pack(tmp_path, cut.package, files)
        monkeypatch.setattr(characters, "CUTS", cuts)
        monkeypatch.setattr(characters, "BLOCKS", blocks)
        return characters.draw(tmp_path)

    return draw


def squares(*codes: int) -> list[bytes]:
    """Four typefaces with these, the larger the later and each character another size."""
    return [woff2({code: (0, 0, 250 + 150 * i + 20 * at) for at, code in enumerate(codes)}) for i in range(4)]


def test_a_class_is_a_character_its_images_are_typefaces(packed):
    drawn = packed(squares(HAN, HAN + 1, HAN + 50))
    assert {name: sorted(d.source for d in some) for name, some in drawn.classes.items()} == {
        "4E00": ["f0", "f1", "f2", "f3"],
        "4E01": ["f0", "f1", "f2", "f3"],
    }
    assert [(s.name, s.licence) for s in drawn.sources] == [(f"f{i}", "OFL-1.1") for i in range(4)]


def test_a_drawing_is_black_on_white_and_in_the_middle(packed):
    image = next(d.image for d in packed(squares(HAN)).classes["4E00"] if d.source == "f3")
    assert image.shape == (SIDE, SIDE, 3) and image.dtype == np.uint8
    rows, columns = np.nonzero(image[..., 0] < 128)
    side = 0.7 * characters.EM
    assert abs(rows.size - side**2) < 4 * side
    assert abs(rows.mean() - (SIDE - 1) / 2) < 1
    assert abs(columns.mean() - ((SIDE - characters.EM) / 2 + side / 2)) < 1  # at the left of its width, one em
    assert (image[[0, -1]] == 255).all() and (image[:, [0, -1]] == 255).all()


def test_blank_and_damaged_characters_are_left_out_and_counted(packed):
    blank = woff2({HAN: (0, 0, 0), HAN + 50: (0, 0, 500)})
    damaged = woff2({HAN: (0, 0, 0)})  # a typeface with no outline at all is one that FreeType refuses to draw
    drawn = packed([*squares(HAN), blank, damaged])
    assert len(drawn.classes["4E00"]) == 4
    assert +Counter(drawn.skipped) == {"blank drawings": 1, "damaged outlines": 1}


def test_characters_are_those_of_enough_typefaces(packed):
    typefaces = squares(HAN, HAN + 1)
    typefaces[0] = woff2({HAN: (0, 0, 200)})
    assert list(packed(typefaces).classes) == ["4E00"]


def test_so_many_of_each_block_are_chosen(packed, tmp_path):
    packed(squares(*range(HAN, HAN + 8), *range(HANGUL, HANGUL + 8)))
    typefaces = [characters.read(cut, tmp_path) for cut in characters.CUTS]
    blocks = Block(range(HAN, HAN + 6), 3, 4), Block(range(HANGUL, HANGUL + 9), 5, 4)
    found = chosen(typefaces, blocks)
    assert [sum(code in block.code_points for code in found) for block in blocks] == [3, 5]
    assert found == chosen(typefaces[::-1], blocks)


def test_a_typeface_that_may_not_be_used_is_refused(packed):
    with pytest.raises(UserError, match=r"@art/f0@1.0.0 has the licence proprietary, expected one of "):
        packed(squares(HAN), licence="proprietary")


def test_a_damaged_typeface_is_named(packed):
    with pytest.raises(UserError, match=r"art-f1-1.0.0.tgz cannot be read as a package of npm "):
        packed([*squares(HAN)[:1], b"wOF2 and no more"])


@pytest.mark.parametrize("name", ["brotli", "fontTools.ttLib"])
def test_without_what_unpacks_typefaces(packed, monkeypatch, name):
    typefaces = squares(HAN)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"characters need fonttools and brotli: pip install 'metrix_ext\[datasets\]'"):
        packed(typefaces)


def test_the_packages_have_exact_versions():
    assert len(characters.PACKAGES) == len(set(characters.PACKAGES)) > 20
    assert all(package.version.replace(".", "").isdecimal() for package in characters.PACKAGES)
