"""MAP@R, R-precision, NMI and several measures at once, against the definitions and pytorch-metric-learning."""

import builtins
import math
from collections import Counter

import pytest
import torch

import metrix_ext as mx
from bench.timing.measure import PeakMemory
from metrix_ext.retrieval import compute, map_at_r, measures, neighbours, nmi, r_precision, recall_at_k

from .test_retrieval import naive_recall, sorted_neighbours


def literal(ranking, labels, gallery_labels):
    """(MAP@R, R-precision) as Musgrave et al. write them, of rankings that have every candidate."""
    average_precisions, r_precisions = [], []
    for i, ranked in enumerate(ranking):
        right = [gallery_labels[j] == labels[i] for j in ranked]
        r = sum(right)
        precision_at = [sum(right[:rank]) / rank for rank in range(1, r + 1)]
        average_precisions.append(sum(p for p, one in zip(precision_at, right, strict=False) if one) / max(r, 1))
        r_precisions.append(sum(right[:r]) / max(r, 1))
    return sum(average_precisions) / len(ranking), sum(r_precisions) / len(ranking)


def clustered(sizes, seed=0, dimension=6):
    """Embeddings [n, d] around a centre per class, and labels, in a random order; the classes have these sizes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    centres = torch.randn(len(sizes), dimension, generator=generator, dtype=torch.float64)
    x = centres[labels] + torch.randn(len(labels), dimension, generator=generator, dtype=torch.float64)
    return x, labels * 7 - 3


SIZES = {
    "even": [6] * 8,
    "one large": [40, 3, 2, 4],
    "one class": [30],
    "all alone": [1] * 12,
    "some alone": [1, 9, 1, 5],
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("block", [1, 700, 2**24])
@pytest.mark.parametrize("largest_whole", [0, 2**30])
def test_every_measure_equals_its_definition(sizes, block, largest_whole, monkeypatch):
    monkeypatch.setattr(compute, "BLOCK", block)
    monkeypatch.setattr(neighbours, "LARGEST_WHOLE", largest_whole)
    x, y = clustered(sizes)
    ranking = sorted_neighbours(x, x, leave_out_self=True)
    expected = literal(ranking, y.tolist(), y.tolist())
    assert (map_at_r(x, y), r_precision(x, y)) == pytest.approx(expected, abs=1e-12)
    found = measures(x, y, k=(1, 3))
    assert list(found) == ["recall_at_k", "map_at_r", "r_precision"]
    assert (found["map_at_r"], found["r_precision"]) == pytest.approx(expected, abs=1e-12)
    assert found["recall_at_k"] == {k: naive_recall(ranking, y, y, k) for k in (1, 3)}


@pytest.mark.parametrize("block", [1, 700, 2**24])
def test_a_gallery_has_its_own_r(block, monkeypatch):
    monkeypatch.setattr(compute, "BLOCK", block)
    x, y = clustered([12, 5, 7, 2, 1])
    queries, gallery = slice(0, 11), slice(11, None)
    given = {"gallery": x[gallery], "gallery_labels": y[gallery]}
    ranking = sorted_neighbours(x[queries], x[gallery], leave_out_self=False)
    expected = literal(ranking, y[queries].tolist(), y[gallery].tolist())
    found = measures(x[queries], y[queries], ("r_precision", "map_at_r"), **given)
    assert list(found.items()) == [
        ("r_precision", pytest.approx(expected[1], abs=1e-12)),
        ("map_at_r", pytest.approx(expected[0], abs=1e-12)),
    ]
    assert map_at_r(x[queries], y[queries], **given) == found["map_at_r"]
    assert r_precision(x[queries], y[queries], **given) == found["r_precision"]


def test_an_example_by_hand():
    # The query (1, 0) has R = 3 and ranks right, wrong, right, right: MAP@R counts the first three of them.
    gallery = torch.tensor([[1.0, 0.1], [1.0, 0.2], [1.0, 0.3], [1.0, 0.4]])
    given = {"gallery": gallery, "gallery_labels": torch.tensor([0, 1, 0, 0])}
    query, label = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    assert map_at_r(query, label, **given) == pytest.approx((1 + 2 / 3) / 3)
    assert r_precision(query, label, **given) == pytest.approx(2 / 3)


def test_duplicates_of_another_class_come_by_index():
    x = torch.tensor([[1.0, 0.0]] * 4)
    # 0 finds 1 (wrong) first, 1 finds 0 (wrong), 2 finds 0 (right), 3 finds 0 (wrong): R is 1 for all.
    assert map_at_r(x, torch.tensor([0, 1, 0, 1])) == r_precision(x, torch.tensor([0, 1, 0, 1])) == 0.25


def test_neighbours_are_searched_once_and_no_deeper_than_a_chunk_needs(monkeypatch):
    calls = []
    top = neighbours.top
    monkeypatch.setattr(neighbours, "top", lambda similarity, k: calls.append(k) or top(similarity, k))
    labels = torch.tensor([0] * 30 + [1, 1] * 15)
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(compute, "BLOCK", 30 * (60 + 29 * compute.PER_NEIGHBOUR))
    measures(x, labels.where(labels == 0, torch.arange(60) // 2 + 1), k=(1, 5))
    assert calls == [29, 5]
    calls.clear()
    recall_at_k(x, labels, k=2)
    assert set(calls) == {2}


@pytest.mark.parametrize("classes", [1, 800])
def test_memory_is_that_of_a_chunk_however_large_the_classes_are(classes, monkeypatch):
    """4,000 examples have 64 MB of similarities, and as many neighbours if all are of one class; a chunk has 1 MB."""
    monkeypatch.setattr(neighbours, "LARGEST_WHOLE", 0)
    monkeypatch.setattr(compute, "BLOCK", 2**18)
    x = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(4000) % classes
    measures(x[:50], labels[:50])  # whatever is loaded at the first call
    with PeakMemory(x.device) as memory:
        measures(x, labels)
    assert memory.mib < 40


@pytest.mark.parametrize("sizes", [[6] * 8, [40, 3, 2, 4], [1, 9, 1, 5]])
@pytest.mark.parametrize("with_gallery", [False, True])
def test_pytorch_metric_learning_agrees(sizes, with_gallery):
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    x, y = clustered(sizes, seed=1)
    x = x.float()
    names = {"recall_at_k": "precision_at_1", "map_at_r": "mean_average_precision_at_r", "r_precision": "r_precision"}
    half = len(x) // 2
    queries, candidates = (slice(0, half), slice(half, None)) if with_gallery else (slice(None), slice(None))
    theirs = AccuracyCalculator(
        include=tuple(names.values()),
        k="max_bin_count",
        knn_func=CustomKNN(CosineSimilarity(), batch_size=16),
        device=torch.device("cpu"),
    ).get_accuracy(x[queries], y[queries], *((x[candidates], y[candidates]) if with_gallery else ()))
    given = {"gallery": x[candidates], "gallery_labels": y[candidates]} if with_gallery else {}
    ours = measures(x[queries], y[queries], k=1, **given)
    others = Counter(y[candidates].tolist())
    alone = sum(others[label] == (0 if with_gallery else 1) for label in y[queries].tolist())
    share = 1 - alone / len(x[queries])  # they leave out queries that are alone in their class
    for name, of_theirs in names.items():
        found = ours[name][1] if name == "recall_at_k" else ours[name]
        assert found == pytest.approx(theirs[of_theirs] * share, abs=1e-6), name


def entropy(counts):
    total = sum(counts)
    return -sum(count / total * math.log(count / total) for count in counts)


def literal_nmi(labels, clusters):
    classes, groups = entropy(Counter(labels).values()), entropy(Counter(clusters).values())
    together = entropy(Counter(zip(labels, clusters, strict=True)).values())
    return 2 * (classes + groups - together) / (classes + groups)


def test_nmi_is_that_of_the_clusters_of_k_means():
    cluster = pytest.importorskip("sklearn.cluster")
    x, y = clustered([9] * 6)
    found = nmi(x * torch.logspace(-2, 2, len(x), dtype=x.dtype)[:, None], y, seed=3)
    points = torch.nn.functional.normalize(x).numpy()
    clusters = cluster.KMeans(n_clusters=6, n_init=1, random_state=3).fit_predict(points)
    assert found == pytest.approx(literal_nmi(y.tolist(), clusters.tolist()), abs=1e-9)
    assert 0.3 < found < 1
    assert nmi(x, y) == measures(x, y, ["nmi"])["nmi"] == nmi(x, y, seed=0)


def test_nmi_of_classes_far_apart_is_one():
    pytest.importorskip("sklearn")
    y = torch.arange(4).repeat(5)
    assert nmi(10 * torch.eye(4)[y].half() + 0.01, y) == pytest.approx(1)


def test_without_scikit_learn_nmi_says_what_to_install_and_the_rest_works(monkeypatch):
    def without(name, *arguments, **named):
        if name.startswith("sklearn"):
            raise ImportError(f"No module named {name!r}")
        return importing(name, *arguments, **named)

    importing = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without)
    x, y = clustered([3, 3])
    measures(x, y)
    with pytest.raises(ImportError, match=r"nmi needs scikit-learn \(.*\): pip install 'metrix_ext\[nmi\]'"):
        measures(x, y, ("nmi",))


X, Y = torch.eye(4), torch.arange(4)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: measures(X, Y, "nmi"), TypeError, "names: got 'nmi', expected some of recall_at_k, map_at_r, r_pre"),
        (lambda: measures(X, Y, ["mAP"]), ValueError, r"names: got \['mAP'\], expected some of recall_at_k"),
        (lambda: measures(X, Y, []), ValueError, r"names: got \[\], expected some of"),
        (lambda: measures(X, Y, 3), TypeError, "names: got 3"),
        (lambda: measures(X, Y, k=0), ValueError, "k: got 0"),
        (lambda: map_at_r(X, Y[:3]), ValueError, r"labels: got \[3\], expected \[4\]"),
        (lambda: map_at_r(X / 0, Y), ValueError, "embeddings: got NaN or Inf in 4 of 4 rows"),
        (lambda: map_at_r(X, Y, gallery=X), ValueError, "gallery_labels is missing"),
        (lambda: r_precision(X, Y, X[:, :3], Y), ValueError, "gallery: got .* expected 4 columns"),
        (lambda: r_precision(X.long(), Y), TypeError, "embeddings: got torch.int64"),
        (lambda: nmi(X, Y.float()), TypeError, "labels: got torch.float32"),
        (lambda: nmi(X, Y, seed=-1), ValueError, "seed: got -1"),
        (lambda: mx.retrieval.nmi(X[0], Y), ValueError, r"embeddings: got \[4\]"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
