"""The embedded data set: its classes, its images, its cache."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from train.data import splits
from train.data.sources import glyphs


@pytest.fixture
def few_glyphs(monkeypatch, tmp_path):
    """The same recipe on a few characters: quick to build, with a cache of its own."""
    monkeypatch.setenv("METRIX_CACHE", str(tmp_path / "cache"))
    everything = glyphs.candidates
    monkeypatch.setattr(glyphs, "candidates", lambda fonts: everything(fonts)[20:60])


def test_glyphs_have_enough_distinct_images_in_both_halves(cache):
    halves = splits.load("glyphs", None, 32, split_seed=0)
    for half in (halves.train, halves.test):
        counts = np.bincount(half.labels)
        assert len(counts) >= 200
        assert counts.min() >= 5
    assert not set(halves.train.names) & set(halves.test.names)
    x, _ = glyphs.drawings(32)
    assert x.dtype == np.uint8
    assert x.shape[1:] == (32, 32)
    assert len(np.unique(x.reshape(len(x), -1), axis=0)) == len(x)
    ink = 255 - x.reshape(len(x), -1).astype(int)
    assert ink.max(1).min() > 100  # nothing blank


def test_look_alikes_of_glyphs_are_one_class(cache):
    _, code_points = glyphs.drawings(32)
    kept = {chr(c) for c in code_points}
    # Greek, Cyrillic and Latin letters of one shape, small and capital letters of one shape, dashes, bars.
    for alike in ("A\u0391\u0410", "oO\u043e\u041e", "cC", "xX\u0445", "vV", "-\u2212\u2013", "Il|"):
        assert len(kept & set(alike)) <= 1, alike
    for different in ("ABQRW", "agk", "2345", "→←", "♠♣"):
        assert kept >= set(different)


def test_a_mirrored_glyph_is_another_class(cache):
    _, code_points = glyphs.drawings(32)
    assert {ord("b"), ord("d")} <= set(code_points.tolist())


def test_missing_glyphs_are_not_drawn(cache):
    """A typeface that lacks a character would draw the same box for all of them."""
    fonts = glyphs.typefaces(64)
    missing = [sum(c not in covered for c in (0x2660, 0x0416, 0x10D0)) for _, covered in fonts]
    assert sum(missing) > 0
    _, code_points = glyphs.drawings(32)
    counts = Counter(code_points.tolist())
    for c in (0x2660, 0x0416, 0x10D0):
        assert counts[c] == sum(c in covered for _, covered in fonts)


def test_glyphs_follow_from_the_seed(few_glyphs):
    first, again, other = glyphs.build(32, 0), glyphs.build(32, 0), glyphs.build(32, 1)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], other[1])
    assert not np.array_equal(first[0], other[0])


def test_the_cache_is_read_and_a_damaged_one_built_anew(few_glyphs, monkeypatch, capsys):
    x, y = glyphs.drawings(24)
    path = glyphs.cache_path(24, 0)
    assert [file.name for file in path.parent.iterdir()] == [path.name]

    build, builds = glyphs.build, []
    monkeypatch.setattr(glyphs, "build", lambda *a: builds.append(a) or build(*a))
    assert np.array_equal(glyphs.drawings(24)[0], x)
    assert builds == []

    whole = path.read_bytes()
    damages = (b"", b"not an archive", whole[: len(whole) // 2], whole[:200] + bytes(100) + whole[300:])
    for number, damage in enumerate(damages, start=1):
        path.write_bytes(damage)
        assert np.array_equal(glyphs.drawings(24)[0], x)
        assert len(builds) == number
        assert path.read_bytes() == whole
        assert "anew" in capsys.readouterr().err
    assert np.array_equal(glyphs.drawings(24)[1], y)


def test_a_cache_that_cannot_be_written_is_no_obstacle(few_glyphs, monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METRIX_CACHE", str(tmp_path / "file" / "below"))
    x, y = glyphs.drawings(24)
    assert len(x) == len(y) > 0
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "not cached" in error
