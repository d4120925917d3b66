"""What is unambiguous is accepted: the numbers are those of the plain way to say the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import metrix_ext as mx

from .support import LOSSES, attempt, gave, make_batch, make_head, make_loss, make_maps, on_reference

UNSIGNED = [torch.uint16, torch.uint32, torch.uint64]
SIGNED = [torch.uint8, torch.int8, torch.int16, torch.int32]


def loss_of(name: str, labels: Any) -> float:
    return float(make_loss(name)(make_batch()[0], labels).detach())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("pool", ["avg", "max", "avg+max"])
def test_maps_of_fewer_digits_than_the_head_has(pool: str, dtype: torch.dtype) -> None:
    """As a backbone under autocast gives them to a head outside: nothing is lost, by the head or by its mixes."""
    maps, (x, labels) = make_maps().to(dtype), make_batch()
    head = make_head(pool)
    assert torch.equal(head(maps), head(maps.double()))
    criterion = mx.Metrix(make_loss("MultiSimilarityLoss"), mix="feature", pairs="pos-neg", lam=0.3)
    losses = [criterion(x, labels, source=source, encode=head) for source in (maps, maps.double())]
    assert torch.equal(*losses)


@pytest.mark.parametrize("dtype", SIGNED + UNSIGNED)
@pytest.mark.parametrize("name", LOSSES)
def test_labels_of_any_integer_type(name: str, dtype: torch.dtype) -> None:
    """Also the unsigned types of 16 to 64 bits, which PyTorch can hardly compute with."""
    _, labels = make_batch()
    gave(attempt(lambda: loss_of(name, labels.to(dtype))), loss_of(name, labels))


@pytest.mark.parametrize("dtype", UNSIGNED)
def test_reference_labels_of_unsigned_types(dtype: torch.dtype) -> None:
    x, labels = make_batch()
    loss = make_loss("MultiSimilarityLoss")
    made = attempt(lambda: float(loss(x, labels.to(dtype), ref_emb=x.clone(), ref_labels=labels.to(dtype))))
    gave(made, float(loss(x, labels, ref_emb=x.clone(), ref_labels=labels)))


# Ways to give labels, each [n] in the end.
WAYS = {
    "a column": lambda labels: labels[:, None],
    "a list": lambda labels: labels.tolist(),
    "a tuple": lambda labels: tuple(labels.tolist()),
    "a numpy array": lambda labels: labels.numpy(),
    "a numpy column": lambda labels: labels[:, None].numpy(),
    "a numpy array of int32": lambda labels: labels.numpy().astype(np.int32),
    "a list of numpy integers": lambda labels: list(labels.numpy()),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LOSSES)
def test_labels_as_pytorch_metric_learning_takes_them(name: str, way: str) -> None:
    """[n, 1], lists and numpy arrays say the same as [n]."""
    _, labels = make_batch()
    gave(attempt(lambda: loss_of(name, WAYS[way](labels))), loss_of(name, labels))


@pytest.mark.parametrize("way", WAYS)
def test_reference_labels_likewise(way: str) -> None:
    x, labels = make_batch()
    loss = make_loss("ContrastiveLoss")
    made = attempt(lambda: float(loss(x, labels, ref_emb=x.clone(), ref_labels=WAYS[way](labels))))
    gave(made, float(loss(x, labels, ref_emb=x.clone(), ref_labels=labels)))


@pytest.mark.parametrize("way", WAYS)
def test_labels_of_metrix_likewise(way: str) -> None:
    x, labels = make_batch()
    criterion = mx.Metrix(make_loss("ContrastiveLoss"), mix="embed", pairs="pos-neg")
    gave(attempt(lambda: float(criterion(x, WAYS[way](labels), seed=1))), float(criterion(x, labels, seed=1)))


@pytest.mark.parametrize("way", WAYS)
def test_labels_of_recall_likewise(way: str) -> None:
    x, labels = make_batch()
    expected = mx.retrieval.recall_at_k(x, labels, 2)[2]
    gave(attempt(lambda: mx.retrieval.recall_at_k(x, WAYS[way](labels), 2)[2]), expected)


@pytest.mark.parametrize("k", [np.int64(2), np.int32(2), np.uint8(2)])
def test_k_as_a_numpy_integer(k: Any) -> None:
    x, labels = make_batch()
    gave(attempt(lambda: mx.retrieval.recall_at_k(x, labels, k)[2]), mx.retrieval.recall_at_k(x, labels, 2)[2])
    gave(attempt(lambda: mx.retrieval.nearest(x, k).tolist()), mx.retrieval.nearest(x, 2).tolist())


@pytest.mark.parametrize("ks", [np.array([1, 2]), range(1, 3), (np.int64(1), 2), torch.tensor([1, 2])])
def test_several_k(ks: Any) -> None:
    """The keys of what comes back are plain integers."""
    x, labels = make_batch()
    made = attempt(lambda: mx.retrieval.recall_at_k(x, labels, ks))
    assert made.error is None, f"expected a result, but {made}"
    assert made.value == mx.retrieval.recall_at_k(x, labels, (1, 2))
    assert [type(k) for k in made.value] == [int, int]


def mixed(**options: Any) -> float:
    x, labels = make_batch()
    criterion = mx.Metrix(make_loss("MultiSimilarityLoss"), mix="embed", pairs="pos-neg", **options)
    return float(criterion(x, labels, seed=7))


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ({"hard_negatives": np.int64(2)}, {"hard_negatives": 2}),
        ({"hard_negatives": {"embed": np.int32(2)}}, {"hard_negatives": 2}),
        ({"workspace": np.int64(10**6)}, {"workspace": 10**6}),
        ({"strength": np.float32(0.5)}, {"strength": 0.5}),
        ({"alpha": np.float64(2.0)}, {"alpha": 2.0}),
        ({"alpha": np.float32(2.0)}, {"alpha": 2.0}),
        ({"alpha": np.int64(2)}, {"alpha": 2.0}),
        ({"lam": np.float32(0.25)}, {"lam": 0.25}),
        ({"lam": np.full((12, 12), 0.25)}, {"lam": 0.25}),
        ({"lam": np.array(0.25)}, {"lam": 0.25}),
    ],
)
def test_options_of_metrix_as_numpy_numbers(given: dict[str, Any], plain: dict[str, Any]) -> None:
    """An array for lam is the matrix of its numbers."""
    gave(attempt(lambda: mixed(**given)), mixed(**plain))


@pytest.mark.parametrize("seed", [np.int64(7), np.uint32(7), torch.tensor(7)])
def test_seed_as_another_integer(seed: Any) -> None:
    x, labels = make_batch()
    criterion = mx.Metrix(make_loss("MultiSimilarityLoss"), mix="embed", pairs="pos-neg")
    gave(attempt(lambda: float(criterion(x, labels, seed=seed))), mixed())


@pytest.mark.parametrize("sizes", [(np.int64(4), 6), (4, np.int32(6))])
def test_sizes_of_proxies_as_numpy_integers(sizes: tuple[Any, Any]) -> None:
    assert attempt(lambda: list(mx.losses.ProxyNCALoss(*sizes).proxies.shape)).value == [4, 6]
    assert attempt(lambda: list(mx.heads.PoolingHead(*sizes).linear.weight.shape)).value == [6, 4]


@pytest.mark.parametrize(
    ("of_embeddings", "of_references"),
    [
        (torch.float32, torch.float64),
        (torch.float64, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float64),
        (torch.float16, torch.bfloat16),
    ],
)
def test_embeddings_and_references_of_two_types(of_embeddings: torch.dtype, of_references: torch.dtype) -> None:
    """Compared in the type that holds both, as embeddings are with proxies."""
    x, labels = make_batch()
    x, references = x.to(of_embeddings), make_batch(seed=4)[0].to(of_references)
    loss = make_loss("MultiSimilarityLoss")
    made = attempt(lambda: float(loss(x, labels, ref_emb=references, ref_labels=labels)))
    wide = float(loss(x.double(), labels, ref_emb=references.double(), ref_labels=labels))
    gave(made, wide, 1e-4)


@pytest.mark.parametrize("scale", [1e19, 1e25, 1e30])
@pytest.mark.parametrize("name", LOSSES)
def test_large_embeddings_have_a_direction(backend: str, name: str, scale: float) -> None:
    """Up to the largest numbers of float32: squares that overflow must not turn the embeddings into zero vectors."""
    x, labels = make_batch(dtype=torch.float32)
    loss = make_loss(name, torch.float32)
    gave(attempt(lambda: float(loss(x * scale, labels).detach())), float(loss(x, labels).detach()), 1e-4)


@pytest.mark.parametrize("scale", [1e160, 1e250])
def test_large_embeddings_in_double_have_a_direction(backend: str, scale: float) -> None:
    x, labels = make_batch()
    loss = make_loss("MultiSimilarityLoss")
    gave(attempt(lambda: float(loss(x * scale, labels).detach())), float(loss(x, labels).detach()), 1e-8)


@pytest.mark.parametrize("pool", ["avg", "max", "avg+max"])
def test_large_maps_have_a_direction(backend: str, pool: str) -> None:
    """Mixes of maps of 1e19 are those of maps of 1, since their embeddings are normalised."""
    x, labels = make_batch(dtype=torch.float32)
    head, maps = make_head(pool, dtype=torch.float32), make_maps(dtype=torch.float32)
    nn.init.zeros_(head.linear.bias)
    criterion = mx.Metrix(make_loss("MultiSimilarityLoss", torch.float32), mix="feature", pairs="pos-neg", lam=0.3)

    def mixed_loss(maps: Tensor) -> float:
        return float(criterion(x, labels, source=maps, encode=head).detach())

    gave(attempt(lambda: mixed_loss(maps * 1e19)), mixed_loss(maps), 1e-4)


def test_a_head_whose_linear_is_an_mlp_embeds() -> None:
    """Its input size is what comes in: nothing asks the module for in_features."""
    head = make_head("avg")
    plain = head(make_maps())
    head.linear = nn.Sequential(head.linear)
    gave(attempt(lambda: head(make_maps()).tolist()), plain.tolist())


def test_a_column_of_embeddings_of_one_dimension(backend: str) -> None:
    """[n, 1] embeddings are embeddings, not a mistake."""
    x, labels = make_batch()
    loss = make_loss("MultiSimilarityLoss", normalize=False)
    gave(attempt(lambda: float(loss(x[:, :1], labels))), on_reference(lambda: float(loss(x[:, :1], labels))))
