"""Retrieval measures against plain Python loops."""

import pytest
import torch

from metrix_ext.retrieval import compute, nearest, neighbours, recall_at_k, utilization


def sorted_neighbours(queries, candidates, leave_out_self):
    """Every candidate of each query in order of similarity, then of index, in fp64."""
    q = torch.nn.functional.normalize(queries.double()).tolist()
    c = torch.nn.functional.normalize(candidates.double()).tolist()
    lists = []
    for i, a in enumerate(q):
        scored = [
            (-sum(u * v for u, v in zip(a, b, strict=True)), j)
            for j, b in enumerate(c)
            if not (leave_out_self and i == j)
        ]
        lists.append([j for _, j in sorted(scored)])
    return lists


def naive_recall(neighbours, labels, gallery_labels, k):
    hits = [any(gallery_labels[j] == labels[i] for j in found[:k]) for i, found in enumerate(neighbours)]
    return sum(hits) / len(hits)


@pytest.fixture
def small():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 9, (40,), generator=generator)
    return x, y


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("block", [1, 100, 2**24])
@pytest.mark.parametrize("largest_whole", [0, 2**30])
def test_recall_and_nearest_equal_the_naive_loop(small, dtype, block, largest_whole, monkeypatch):
    monkeypatch.setattr(compute, "BLOCK", block)  # 1 row, 2 rows (and a remainder), all rows at once
    monkeypatch.setattr(neighbours, "LARGEST_WHOLE", largest_whole)
    x, y = small[0].to(dtype), small[1]
    expected = sorted_neighbours(x, x, leave_out_self=True)
    recall = recall_at_k(x, y, k=(1, 2, 5, 39))
    assert recall == {k: naive_recall(expected, y, y, k) for k in (1, 2, 5, 39)}
    assert 0 < recall[1] < recall[5] < 1
    assert nearest(x, 7).tolist() == [found[:7] for found in expected]


@pytest.mark.parametrize("block", [1, 60, 2**24])
def test_gallery(small, block, monkeypatch):
    monkeypatch.setattr(compute, "BLOCK", block)
    x, y = small
    queries, gallery = x[:15], x[15:]
    expected = sorted_neighbours(queries, gallery, leave_out_self=False)
    recall = recall_at_k(queries, y[:15], k=(1, 3), gallery=gallery, gallery_labels=y[15:])
    assert recall == {k: naive_recall(expected, y[:15], y[15:], k) for k in (1, 3)}
    assert nearest(queries, 4, gallery=gallery).tolist() == [found[:4] for found in expected]


def test_a_query_is_searched_when_it_is_in_the_gallery(small):
    x, y = small
    assert recall_at_k(x, y, k=1, gallery=x, gallery_labels=y) == {1: 1.0}


def test_the_query_is_left_out_by_index_not_by_similarity():
    # 0 and 1 are one image twice, with one label; dropping "the best match" would leave 0 with only 2 and 3.
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    y = torch.tensor([0, 0, 1, 2])
    assert recall_at_k(x, y, k=1) == {1: 0.5}
    assert nearest(x, 1)[:2].tolist() == [[1], [0]]


def test_ties_go_to_the_lower_index():
    x = torch.tensor([[1.0, 0.0]] * 5 + [[0.0, 1.0]])
    assert nearest(x, 3).tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2], [0, 1, 2]]
    assert nearest(x, 5).tolist()[0] == [1, 2, 3, 4, 5]
    y = torch.tensor([0, 1, 0, 1, 1, 2])
    assert recall_at_k(x, y, k=(1, 2)) == {1: 1 / 6, 2: 4 / 6}


def test_fewer_candidates_than_k(small):
    x, y = small
    assert recall_at_k(x, y, k=(39, 1000))[1000] == recall_at_k(x, y, k=39)[39]
    assert nearest(x, 1000).shape == (40, 39)
    assert recall_at_k(x[:1], y[:1], k=4) == {4: 0.0}


def test_examples_alone_in_their_class_are_misses_that_count():
    x = torch.eye(4)
    assert recall_at_k(x, torch.tensor([0, 1, 2, 2]), k=3) == {3: 0.5}


def test_a_single_k_and_the_order_of_several(small):
    x, y = small
    assert list(recall_at_k(x, y, k=2)) == [2]
    assert list(recall_at_k(x, y, k=[8, 1])) == [8, 1]


def test_length_does_not_matter(small):
    x, y = small
    scale = torch.logspace(-3, 3, len(x), dtype=x.dtype)[:, None]
    assert recall_at_k(x * scale, y) == recall_at_k(x, y)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_compared_in_fp32_even_under_autocast(small, dtype):
    x = small[0].to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = nearest(x, 5)
    assert found.tolist() == [f[:5] for f in sorted_neighbours(x, x, leave_out_self=True)]


def test_the_callers_matmul_precision_is_put_back(small):
    backend = torch.backends.mkldnn.matmul
    before = backend.fp32_precision
    try:
        backend.fp32_precision = "bf16"
        nearest(small[0].float(), 1)
        assert backend.fp32_precision == "bf16"
    finally:
        backend.fp32_precision = before


def naive_utilization(q, x):
    return sum(min(sum((u - v) ** 2 for u, v in zip(a, b, strict=True)) for b in x) for a in q) / len(q)


@pytest.mark.parametrize("block", [1, 50, 2**24])
def test_utilization(small, block, monkeypatch):
    monkeypatch.setattr(compute, "BLOCK", block)
    x, _ = small
    q, clean, mixed = x[:10], x[10:25], x[25:] * 0.5
    alone = utilization(q, clean)
    both = utilization(q, clean, mixed)
    assert alone == pytest.approx(naive_utilization(q.tolist(), clean.tolist()), rel=1e-12)
    assert both == pytest.approx(naive_utilization(q.tolist(), torch.cat([clean, mixed]).tolist()), rel=1e-12)
    assert both < alone
    assert utilization(q, clean, iter(mixed.split(4))) == both


def test_utilization_of_close_vectors_does_not_cancel():
    x = torch.ones(1, 64)
    q = x + 1e-4
    assert utilization(q, x) == pytest.approx(64e-8, rel=1e-2)
    assert utilization(x, x) == 0.0


X, Y = torch.eye(4), torch.arange(4)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: recall_at_k(X.numpy(), Y), TypeError, "embeddings: got ndarray"),
        (lambda: recall_at_k(X.long(), Y), TypeError, "embeddings: got torch.int64"),
        (lambda: recall_at_k(X[0], Y), ValueError, r"embeddings: got \[4\]"),
        (lambda: recall_at_k(X[:0], Y[:0]), ValueError, r"embeddings: got \[0, 4\]"),
        (lambda: recall_at_k(X / 0, Y), ValueError, "embeddings: got NaN or Inf in 4 of 4 rows"),
        (lambda: recall_at_k(X, [0.5, 1, 2, 3]), TypeError, "labels: got list of float"),
        (lambda: recall_at_k(X, Y.float()), TypeError, "labels: got torch.float32"),
        (lambda: recall_at_k(X, Y[:3]), ValueError, r"labels: got \[3\], expected \[4\]"),
        (lambda: recall_at_k(X, Y, k=0), ValueError, "k: got 0"),
        (lambda: recall_at_k(X, Y, k=()), ValueError, r"k: got \(\)"),
        (lambda: recall_at_k(X, Y, k=(1, 2.0)), TypeError, "k: got 2.0"),
        (lambda: recall_at_k(X, Y, gallery=X), ValueError, "gallery_labels is missing"),
        (lambda: recall_at_k(X, Y, gallery_labels=Y), ValueError, "gallery is missing"),
        (lambda: recall_at_k(X, Y, gallery=X[:, :3], gallery_labels=Y), ValueError, "expected 4 columns"),
        (lambda: recall_at_k(X, Y, gallery=X, gallery_labels=Y[:2]), ValueError, r"gallery_labels: got \[2\]"),
        (lambda: nearest(X, 1, gallery=X * float("nan")), ValueError, "gallery: got NaN"),
        (lambda: nearest(X, True), TypeError, "k: got True"),
        (lambda: utilization(X, X[:0]), ValueError, r"embeddings: got \[0, 4\]"),
        (lambda: utilization(X, X, [X, X[:, :2]]), ValueError, r"mixed: got \[4, 2\]"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("largest_whole", [0, 2**30])
def test_duplicates_are_equally_similar_wherever_they_stand(largest_whole, monkeypatch):
    """The products of a symmetric whole, and of a chunk, are rounded the same at every place: the index decides."""
    monkeypatch.setattr(neighbours, "LARGEST_WHOLE", largest_whole)
    monkeypatch.setattr(compute, "BLOCK", 34 * (35 + 4 * compute.PER_NEIGHBOUR))  # room for all queries but one
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(7, 33, generator=generator)
    x = rows.repeat(5, 1)[torch.randperm(35, generator=generator)]
    found = nearest(x, 4)
    for query, row in enumerate(found.tolist()):
        same = [i for i in range(35) if i != query and torch.equal(x[i], x[query])]
        assert row == same
