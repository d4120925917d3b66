"""Pictures show any name as it is."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("matplotlib")

from train.data.images import Collection, ImageSet
from train.output import pictures
from train.output.grid import retrieval_grid


@pytest.mark.parametrize("title", [r"$x$ $\frac{", "<script>alert(1)</script> %s {0} \\", "a\x1b[31m\nb \udcff"])
def test_a_title_is_text_whatever_stands_in_it(tmp_path, title):
    images = ImageSet(Collection(np.zeros((4, 8, 8), np.uint8), np.array([0, 0, 1, 1]), ["a", "b"]), np.arange(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures.draw_retrieval(tmp_path / "p.png", retrieval_grid(images, torch.eye(4), seed=0), title)
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.width > 100


def test_a_dollar_begins_no_formula():
    figure = pictures.plt.figure()
    assert not figure.text(0, 0, "$x$").get_parse_math()
    pictures.plt.close(figure)
