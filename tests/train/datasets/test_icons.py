"""Icons: from families of SVGs to drawings of things."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest

from tests.train.datasets.packed import family, pack, square
from train.datasets import icons
from train.datasets.drawings import SIDE
from train.datasets.packages import Package
from train.errors import UserError

pytest.importorskip("resvg_py")


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """Draws from packages of these files."""

    def draw(*families):
        packages = tuple(Package(f"@art/{files['icons.json']['prefix']}", "1.0.0") for files in families)
        for package, files in zip(packages, families, strict=True):
            pack(tmp_path, package, files)
        monkeypatch.setattr(icons, "PACKAGES", packages)
        return icons.draw(tmp_path)

    return draw


def families(n: int, **icons_of_each) -> list[dict]:
    """Families f0, f1, ...: each icon is a function of the number of its family."""
    return [family(f"f{i}", {name: body(i) for name, body in icons_of_each.items()}) for i in range(n)]


def test_a_class_is_a_name_of_five_families(packed):
    found = families(6, home=lambda i: square(2 * i), star=lambda i: square(4, 2 * i, 6))
    del found[0]["icons.json"]["icons"]["star"], found[1]["icons.json"]["icons"]["star"]
    drawn = packed(*found)
    assert {name: [d.source for d in some] for name, some in drawn.classes.items()}.keys() == {"home"}
    assert sorted(d.source for d in drawn.classes["home"]) == [f"f{i}" for i in range(6)]
    assert +Counter(drawn.skipped) == {"names in fewer than 5 families": 1}
    assert [(s.name, str(s.package), s.licence) for s in drawn.sources][:1] == [("f0", "@art/f0@1.0.0", "MIT")]


def test_an_icon_is_black_on_white_in_its_place(packed):
    (drawings,) = packed(*families(5, home=lambda i: square(3 * i, 0, 12))).classes.values()
    image = next(d.image for d in drawings if d.source == "f4")
    assert image.shape == (SIDE, SIDE, 3) and image.dtype == np.uint8
    expected = np.full((SIDE, SIDE, 3), 255, np.uint8)
    expected[:32, 32:] = 0  # 12 units of 24, from 12 on
    np.testing.assert_array_equal(image, expected)


def test_the_plainest_icon_of_a_family_is_drawn_once(packed):
    found = families(5, home=lambda i: square(3 * i))
    for files in found:
        files["icons.json"]["icons"] |= {"home-outline": {"body": square(0, 0, 1)}, "home-24": {"body": square(0)}}
    plain = packed(*families(5, home=lambda i: square(3 * i))).classes["home"]
    styled = packed(*found).classes["home"]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(plain, styled, strict=True))


def test_styles_that_a_family_declares_are_left_out(packed):
    found = families(5, home=lambda i: square(3 * i))
    found[0] = family("f0", {"home-line": square(0)}, styles={"suffixes": {"line": "Line"}})
    assert len(packed(*found).classes["home"]) == 5
    found[0] = family("f0", {"home-line": square(0)})
    assert not packed(*found).classes


def test_an_alias_makes_two_names_one_class(packed):
    shapes = {"trash": lambda i: square(3 * i), "bin": lambda i: square(3 * i, 9), "cup": lambda i: square(3 * i, 1, 4)}
    found = families(6, **shapes)
    del found[5]["icons.json"]["icons"]["bin"]
    found[2]["icons.json"]["aliases"] = {"bin-outline": {"parent": "trash-24"}}
    drawn = packed(*found)
    assert sorted(drawn.classes) == ["cup", "trash"]
    assert drawn.skipped["classes that share a drawing or are synonyms"] == 1


def test_damaged_and_blank_icons_are_left_out_and_counted(packed):
    found = families(7, home=lambda i: square(3 * i, 2, 3))
    found[0]["icons.json"]["icons"]["home"]["body"] = '<path d="M0'
    found[1]["icons.json"]["icons"]["home"]["body"] = "<g/>"
    drawn = packed(*found)
    assert sorted(d.source for d in drawn.classes["home"]) == ["f2", "f3", "f4", "f5", "f6"]
    assert +Counter(drawn.skipped) == {"damaged SVGs": 1, "blank drawings": 1}


def test_a_family_that_may_not_be_used_is_refused(packed):
    with pytest.raises(UserError, match=r"@art/f9@1.0.0 has the licence GPL-2.0, expected one of "):
        packed(*families(5, home=square), family("f9", {"home": square(0)}, licence="GPL-2.0"))


def test_a_package_that_is_no_family_is_named(packed):
    broken = family("f9", {})
    del broken["icons.json"]["icons"]
    with pytest.raises(UserError, match=r"art-f9-1.0.0.tgz cannot be read as a package of npm .*icons"):
        packed(broken)


def test_without_resvg(packed, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(UserError, match=r"icons need resvg-py: pip install 'metrix_ext\[datasets\]'"):
        packed(*families(5, home=square))


def test_the_packages_are_families_with_exact_versions():
    assert len(icons.PACKAGES) == len(set(icons.PACKAGES)) > 50
    assert all(package.version.replace(".", "").isdecimal() for package in icons.PACKAGES)
