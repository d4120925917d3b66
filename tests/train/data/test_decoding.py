"""From files to pixels: modes, depth, orientation, and sizes that no machine should try."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from train.data.decoding import FORMATS, decode
from train.errors import UserError

RAMP = np.linspace(0, 255, 16 * 24).astype(np.uint8).reshape(16, 24)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], 2)


def decoded(path, image, **options):
    image.save(path, **options)
    return np.asarray(decode(path)).astype(int)


def sixteen_bits(values):
    return Image.fromarray(values.astype(np.uint16))


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bits_are_scaled_and_not_cut_off(tmp_path, suffix):
    found = decoded(tmp_path / f"x.{suffix}", sixteen_bits(RAMP.astype(int) * 257))
    assert found.shape == (16, 24, 3)
    assert np.array_equal(found, np.stack([RAMP] * 3, 2))


def png(width, height, depth, colour, rows, transparency=b""):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    key = chunk(b"tRNS", transparency) if transparency else b""
    parts = chunk(b"IHDR", header) + key + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_16_bits_of_colour(tmp_path):
    values = (COLOURS.astype(">u2") * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    (tmp_path / "x.png").write_bytes(png(24, 16, 16, 2, rows))
    assert np.array_equal(np.asarray(decode(tmp_path / "x.png")), COLOURS)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_32_bits_have_no_white(tmp_path, mode):
    Image.fromarray(RAMP).convert(mode).save(tmp_path / "x.tif")
    with pytest.raises(UserError, match=r"x\.tif cannot be read as an image .32 bits"):
        decode(tmp_path / "x.tif")


def test_grey_palette_and_one_bit(tmp_path):
    grey = Image.fromarray(RAMP)
    assert np.array_equal(decoded(tmp_path / "l.png", grey), np.stack([RAMP] * 3, 2))
    indexed = Image.fromarray((RAMP // 64).astype(np.uint8), "P")
    table = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 8, 7]], np.uint8)
    indexed.putpalette(table.tobytes())
    for suffix in ("png", "gif", "bmp"):
        assert np.array_equal(decoded(tmp_path / f"p.{suffix}", indexed), table[RAMP // 64])
    bits = Image.fromarray(RAMP > 127)
    assert np.array_equal(decoded(tmp_path / "1.png", bits)[..., 0], np.where(RAMP > 127, 255, 0))


def test_what_is_transparent_shows_white(tmp_path):
    alpha = np.zeros((16, 24), np.uint8)
    alpha[:, :12] = 255
    expected = np.where(alpha[..., None], COLOURS, 255)
    assert np.array_equal(decoded(tmp_path / "rgba.png", Image.fromarray(np.dstack([COLOURS, alpha]))), expected)
    grey = Image.merge("LA", [Image.fromarray(RAMP), Image.fromarray(alpha)])
    assert np.array_equal(decoded(tmp_path / "la.png", grey)[..., 0], np.where(alpha, RAMP, 255))
    indexed = Image.fromarray((alpha // 255).astype(np.uint8), "P")
    indexed.putpalette([10, 20, 30, 40, 50, 60])
    found = decoded(tmp_path / "p.png", indexed, transparency=0)
    assert np.array_equal(found, np.where(alpha[..., None], [40, 50, 60], 255))


def test_transparency_by_degrees(tmp_path):
    half = Image.new("RGBA", (16, 16), (200, 0, 0, 128))
    expected = np.array([200, 0, 0]) * 128 / 255 + 127
    for suffix in ("png", "tif"):
        assert np.abs(decoded(tmp_path / f"x.{suffix}", half) - expected).max() <= 1
    indexed = half.convert("RGB").quantize(4)
    assert np.abs(decoded(tmp_path / "p.png", indexed, transparency=bytes([128] * 4)) - expected).max() <= 1
    grey = decoded(tmp_path / "la.tif", Image.new("LA", (16, 16), (100, 128)))
    assert np.abs(grey - (100 * 128 / 255 + 127)).max() <= 1


@pytest.mark.parametrize(
    ("depth", "colour", "layout", "pixel", "key"),
    [
        (8, 0, ">B", (200,), (200,)),
        (16, 0, ">H", (51_400,), (51_400,)),
        (8, 2, ">BBB", (200, 100, 0), (200, 100, 0)),
    ],
)
def test_a_colour_that_is_transparent(tmp_path, depth, colour, layout, pixel, key):
    """The first column is of the colour that stands for nothing, the others are not."""
    other = (pixel[0] - 256 if depth == 16 else pixel[0] - 1, *pixel[1:])
    row = b"\0" + struct.pack(layout, *pixel) + struct.pack(layout, *other) * 15
    (tmp_path / "x.png").write_bytes(png(16, 16, depth, colour, row * 16, struct.pack(f">{len(key)}H", *key)))
    found = np.asarray(decode(tmp_path / "x.png"))
    assert (found[:, 0] == 255).all()
    assert (found[:, 1:] == ([199] * 3 if colour == 0 else [199, 100, 0])).all()


def test_grey_of_16_bits_with_transparency(tmp_path):
    for alpha, shown in ((0xFFFF, 200), (0, 255)):
        row = b"\0" + struct.pack(">HH", 200 * 257, alpha) * 16
        (tmp_path / "x.png").write_bytes(png(16, 16, 16, 4, row * 16))
        assert (np.asarray(decode(tmp_path / "x.png")) == shown).all()


def test_grey_of_few_bits(tmp_path):
    (tmp_path / "x.png").write_bytes(png(16, 16, 4, 0, (b"\0" + b"\x48" * 8) * 16))
    assert (np.asarray(decode(tmp_path / "x.png"))[0, :2, 0] == [4 * 17, 8 * 17]).all()
    one = Image.fromarray(RAMP > 127)
    fax = decoded(tmp_path / "1.tif", one, compression="group4")
    assert np.array_equal(fax[..., 0], np.where(RAMP > 127, 255, 0))


def test_the_first_of_several_pictures(tmp_path):
    """A telephone's JPEG with a second picture behind the first, and moving pictures."""
    for kind, suffix in (("MPO", "jpg"), ("GIF", "gif"), ("PNG", "png"), ("TIFF", "tif"), ("WEBP", "webp")):
        red, blue = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
        found = decoded(tmp_path / f"x.{suffix}", red, format=kind, save_all=True, append_images=[blue])
        assert np.abs(found - [255, 0, 0]).max() <= 2


def test_grey_jpeg(tmp_path):
    smooth = np.tile(np.arange(0, 240, 10, dtype=np.uint8), (16, 1))
    found = decoded(tmp_path / "x.jpg", Image.fromarray(smooth), quality=100)
    assert found.shape == (16, 24, 3)
    assert np.abs(found - smooth[..., None]).max() <= 2


def test_cmyk(tmp_path):
    picture = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for suffix in ("jpg", "tif"):
        assert np.abs(decoded(tmp_path / f"x.{suffix}", picture) - [255, 0, 0]).max() <= 3


def four_components(path, stored, adobe, **options):
    """A JPEG of one colour with these components as they are stored; `adobe`: the byte of Adobe's marker, if any."""
    Image.merge("CMYK", [Image.new("L", (16, 16), 255 - value) for value in stored]).save(path, quality=100, **options)
    content = bytearray(path.read_bytes())  # Pillow writes Adobe's marker, and 255 for no ink
    at = content.index(b"\xff\xee\0\x0eAdobe")
    if adobe is None:
        del content[at : at + 16]
    else:
        content[at + 15] = adobe
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("stored", "adobe"),
    [
        ((255, 0, 0, 255), 0),  # inverted CMYK
        ((179, 171, 1, 255), 2),  # inverted CMYK as YCCK
        ((0, 255, 255, 0), None),
    ],
)
def test_cmyk_of_adobe_and_of_others(tmp_path, stored, adobe):
    exif = Image.Exif()
    exif[0x0112] = 6
    for options in ({}, {"exif": exif}):
        four_components(tmp_path / "x.jpg", stored, adobe, **options)
        assert np.abs(np.asarray(decode(tmp_path / "x.jpg")).astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_exif_orientation(tmp_path, orientation, suffix):
    """The stored pixels are those that the camera turned; the picture is one with a dark upper left."""
    upright = np.full((16, 32), 255, np.uint8)
    upright[:8, :8] = 0
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.T, 6: np.rot90(upright), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, 3),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decoded(tmp_path / f"x.{suffix}", Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert found.shape == (16, 32, 3)
    assert np.abs(found[..., 0] - upright).max() < 10


def test_damaged_exif_asks_for_nothing(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "x.jpg", exif=b"Exif\0\0no tags at all")
    assert decode(tmp_path / "x.jpg").size == (24, 16)


def test_an_image_too_large_for_memory_is_one_line(tmp_path):
    side = 20_000
    (tmp_path / "x.png").write_bytes(png(side, side, 1, 0, bytes((side // 8 + 1) * side)))
    with pytest.raises(UserError, match=r"x\.png cannot be read as an image .*400000000 pixels") as raised:
        decode(tmp_path / "x.png")
    assert "\n" not in str(raised.value)


def test_an_image_that_resizing_would_blow_up(tmp_path):
    Image.new("L", (20_000, 1)).save(tmp_path / "x.png")
    with pytest.raises(UserError, match="20000 x 1 pixels: one side is over 200 times the other"):
        decode(tmp_path / "x.png")


@pytest.mark.parametrize("kind", [name for name in FORMATS if name not in ("DIB", "HEIF", "PPM")])
def test_formats_by_content(tmp_path, kind):
    image = Image.new("RGB", (64, 64), (200, 30, 30))
    image.save(tmp_path / "named.png", kind)
    assert np.abs(np.asarray(decode(tmp_path / "named.png")).astype(int) - [200, 30, 30]).max() < 12


def test_postscript_is_not_run(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.eps")
    (tmp_path / "x.eps").rename(tmp_path / "x.png")
    with pytest.raises(UserError, match="cannot identify"):
        decode(tmp_path / "x.png")
