"""Queries with what they find, and the similarities of pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

from train.data.images import Collection, ImageSet
from train.output.grid import retrieval_grid
from train.output.similarities import BINS, Similarities, pair_similarities, whole_classes


def image_set(labels, names="abc"):
    """Image i is of the grey value i, so that a picture tells which one it is."""
    pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    return ImageSet(Collection(pixels, np.array(labels), list(names)), np.arange(len(names)))


def which(image):
    return image.getpixel((0, 0))[0]


def test_a_query_is_left_out_by_its_index_and_its_duplicate_is_found():
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    rows = retrieval_grid(image_set([0, 0, 1, 2]), x, seed=0, queries=10, neighbours=2)
    found = {which(row.image): [(which(n.image), n.right) for n in row.neighbours] for row in rows}
    assert found == {
        0: [(1, True), (2, False)],
        1: [(0, True), (2, False)],
        2: [(0, False), (1, False)],
        3: [(2, False), (0, False)],
    }
    first = next(row for row in rows if which(row.image) == 0)
    assert [n.similarity for n in first.neighbours] == pytest.approx([1.0, 0.8])
    assert first.name == "a[0]" and first.neighbours[1].name == "b[2]"


def test_queries_search_a_gallery_whose_classes_have_numbers_of_their_own():
    queries, gallery = image_set([0, 1], "ab"), image_set([0, 1, 1], "ba")
    rows = retrieval_grid(queries, torch.eye(2), 0, gallery=(gallery, torch.tensor([[1.0, 0], [1, 1], [0, 1]])))
    found = {which(row.image): [(which(n.image), n.right) for n in row.neighbours] for row in rows}
    assert found == {0: [(0, False), (1, True), (2, True)], 1: [(2, False), (1, False), (0, True)]}


def test_queries_are_drawn_by_the_seed():
    images, x = image_set(range(3)), torch.eye(3)
    drawn = [[which(row.image) for row in retrieval_grid(images, x, seed, queries=2)] for seed in (0, 0, *range(1, 8))]
    assert drawn[0] == drawn[1] and len({tuple(one) for one in drawn}) > 1
    assert all(len(set(one)) == 2 for one in drawn)


def loops(x, y, gallery=None, gallery_y=None):
    x = torch.nn.functional.normalize(x)
    others = x if gallery is None else torch.nn.functional.normalize(gallery)
    sides = {True: [], False: []}
    for i in range(len(x)):
        for j in range(len(others) if gallery is not None else i):
            sides[bool(y[i] == (y if gallery is None else gallery_y)[j])].append(float(x[i] @ others[j]))
    return [np.histogram(sides[same], Similarities.edges())[0].tolist() for same in (True, False)]


@pytest.mark.parametrize("with_gallery", [False, True])
def test_similarities_are_those_of_every_pair(with_gallery, monkeypatch):
    monkeypatch.setattr("train.output.similarities.ROWS", 7)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 3, generator=generator), torch.randint(0, 5, (40,), generator=generator)
    sets = (x[:15], y[:15], x[15:], y[15:]) if with_gallery else (x, y)
    found = pair_similarities(*sets[:2], 0, *sets[2:])
    expected = loops(*sets)
    assert [found.positive.tolist(), found.negative.tolist()] == expected
    assert sum(map(sum, expected)) == (15 * 25 if with_gallery else 40 * 39 / 2)


def test_equal_and_opposite_embeddings_lie_in_the_outermost_bins():
    x = torch.tensor([[3.0, 4.0], [3.0, 4.0], [-3.0, -4.0]])
    found = pair_similarities(x, torch.tensor([0, 0, 1]), seed=0)
    assert found.positive[BINS - 1] == found.positive.sum() == 1
    assert found.negative[0] == found.negative.sum() == 2


def test_of_a_large_set_whole_classes_are_taken():
    labels = torch.arange(300) % 60
    kept = whole_classes(labels, most=52, seed=0)
    assert len(kept) == 55 and labels[kept].bincount().unique().tolist() == [0, 5]
    assert not kept.equal(whole_classes(labels, most=52, seed=1))
    assert whole_classes(labels, most=300, seed=0).equal(torch.arange(300))
    found = pair_similarities(torch.randn(300, 4), labels, seed=0, most=52)
    assert found.positive.sum() == 11 * 10
