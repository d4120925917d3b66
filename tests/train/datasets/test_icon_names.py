"""One name for one thing, whatever the style and size of its icon."""

import pytest

from train.datasets.icon_names import thing


@pytest.mark.parametrize(
    ("icon", "expected"),
    [
        ("home", "home"),
        ("home-outline", "home"),
        ("home-outline-rounded", "home"),
        ("home-24", "home"),
        ("home-02", "home"),
        ("home-2-filled", "home"),
        ("home-16-solid", "home"),
        ("user-circle", "circle-user"),
        ("circle-user-solid", "circle-user"),
        ("paint-fill", "fill-paint"),  # no style, unless the family says so
        ("chart-line", "chart-line"),
        ("123", "123"),
        ("solid", "solid"),
        ("4-k", "4-k"),
    ],
)
def test_styles_sizes_and_running_numbers_are_left_out(icon, expected):
    assert thing(icon) == expected


@pytest.mark.parametrize(
    ("icon", "expected"),
    [
        ("chart-line-fill", "chart-line"),
        ("chart-line-line", "chart-line"),
        ("chart-20-fill", "chart"),  # the longer suffix is the family's
        ("round-home", "home"),
        ("round", "round"),
        ("fill", "fill"),
        ("around-home", "around-home"),  # words, not letters
        ("home-refill", "home-refill"),
    ],
)
def test_a_familys_own_styles_are_left_out(icon, expected):
    assert thing(icon, prefixes=("round",), suffixes=("", "line", "fill", "20-fill")) == expected
