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


def png(width, height, depth, colour, rows):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
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


def test_cmyk(tmp_path):
    picture = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for suffix in ("jpg", "tif"):
        assert np.abs(decoded(tmp_path / f"x.{suffix}", picture) - [255, 0, 0]).max() <= 3


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
