"""What cannot be meant is refused at once, in one line that names the argument, what came and what was expected.

Each row of the tables: a call by its name, the argument, the bad value, and a word of the value that the message has.
A number with a fraction where a whole one belongs, a string for a number and a tensor of another type are TypeErrors or
ValueErrors; which of the two is not fixed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import metrix_ext as mx

from .support import CHANNELS, DIM, LOSSES, attempt, isolated, make_batch, make_head, make_loss, make_maps, refused

NAN, INF = math.nan, math.inf
FLOAT8 = torch.float8_e4m3fn

# ---- constructors -----------------------------------------------------------------------------------------

MARGINS = ("ContrastiveLoss", "LiftedStructureLoss", "BinomialDevianceLoss", "MultiSimilarityLoss", "ProxyAnchorLoss")
SCALES = ("BinomialDevianceLoss", "MultiSimilarityLoss", "ProxyAnchorLoss")
NO_NUMBERS = [(NAN, "nan"), (INF, "inf"), (-INF, "-inf"), ("x", "x"), (None, "None"), (torch.ones(2), "")]
NO_SCALES = [*NO_NUMBERS, (0.0, "0"), (-1.0, "-1")]
NO_SIZES = [(2.0, "2.0"), (2.5, "2.5"), (0, "0"), (-1, "-1"), ("4", "4"), (None, "None"), (True, "True"), (NAN, "nan")]

LOSS_OPTIONS = [
    *((name, "margin", value, word) for name in MARGINS for value, word in NO_NUMBERS),
    *((name, option, value, word) for name in SCALES for option in ("beta", "gamma") for value, word in NO_SCALES),
    *(("ProxyNCAPlusPlusLoss", "temperature", value, word) for value, word in NO_SCALES),
    *(("ProxyNCALoss", size, value, word) for size in ("num_classes", "embedding_size") for value, word in NO_SIZES),
    *(("ProxyAnchorLoss", "num_classes", value, word) for value, word in NO_SIZES[:2]),
    *((name, "normalize", value, str(value)) for name in ("NCALoss", "ProxyNCALoss") for value in ("no", 2, None)),
    ("ContrastiveLoss", "aggregate", "median", "median"),
    ("ContrastiveLoss", "aggregate", None, "None"),
    ("ProxyAnchorLoss", "variant", "new", "new"),
]


@pytest.mark.parametrize(("name", "option", "value", "word"), LOSS_OPTIONS)
def test_options_of_losses(name: str, option: str, value: Any, word: str) -> None:
    refused(attempt(lambda: getattr(mx.losses, name)(**{**LOSSES[name], option: value})), option, word)


METRIX_OPTIONS: list[tuple[str, Any, str]] = [
    ("mix", "pixels", "pixels"),
    ("mix", (), "()"),
    ("mix", None, "None"),
    ("mix", ("embed", 3), "3"),
    ("pairs", "neg-pos", "neg-pos"),
    ("pairs", (), "none"),
    ("pairs", None, "None"),
    *(("alpha", value, word) for value, word in (*NO_NUMBERS[:5], (0.01, "0.01"), (-2.0, "-2"), (True, "True"))),
    *(("strength", value, word) for value, word in (*NO_NUMBERS[:4], (-0.1, "-0.1"), (torch.ones(2), ""))),
    ("strength", {"anc-neg": 0.4}, "pos-neg"),
    ("strength", {"pos-neg": "x"}, "x"),
    ("strength", {"pos-neg": 0.1, "negatives": 0.2}, "negatives"),
    ("lam", "example", "example"),
    *(("lam", value, word) for value, word in ((NAN, "nan"), (1.5, "1.5"), (-0.1, "-0.1"), (None, "None"), ([], "[]"))),
    ("lam", torch.tensor(1.5), "1.5"),
    ("lam", torch.tensor(NAN), "nan"),
    ("lam", torch.full((12, 12), -0.5), "-0.5"),
    ("lam", torch.full((12, 12), 0.5 + 0j), "complex"),
    ("renormalize", "no", "no"),
    ("renormalize", None, "None"),
    *(
        ("hard_negatives", value, word)
        for value, word in ((0, "0"), (-1, "-1"), (1.5, "1.5"), (True, "True"), ("3", "3"))
    ),
    ("hard_negatives", {"pixels": 3}, "pixels"),
    ("hard_negatives", [3], "3"),
    *(("workspace", value, word) for value, word in ((1.5, "1.5"), (0, "0"), (-1, "-1"), ("1", "1"), (True, "True"))),
    *(("workspace", value, word) for value, word in ((NAN, "nan"), (2**70, str(2**70)))),
]


@pytest.mark.parametrize(("option", "value", "word"), METRIX_OPTIONS)
def test_options_of_metrix(option: str, value: Any, word: str) -> None:
    given = {"mix": "embed", "pairs": "pos-neg", option: value}
    refused(attempt(lambda: mx.Metrix(make_loss("MultiSimilarityLoss"), **given)), option, word)


HEAD_OPTIONS = [
    *((size, value, word) for size in ("in_channels", "embedding_size") for value, word in NO_SIZES),
    ("pool", "min", "min"),
    ("pool", None, "None"),
    ("pool", ["avg"], "avg"),
]


@pytest.mark.parametrize(("option", "value", "word"), HEAD_OPTIONS)
def test_options_of_a_head(option: str, value: Any, word: str) -> None:
    refused(
        attempt(lambda: mx.heads.PoolingHead(**{"in_channels": 3, "embedding_size": 2, option: value})), option, word
    )


# ---- calls ------------------------------------------------------------------------------------------------


def spoil(tensor: Tensor, index: Any, value: float) -> Tensor:
    tensor = tensor.clone()
    tensor[index] = value
    return tensor


X, Y = make_batch()
MAPS = make_maps()

BATCHES: list[tuple[str, Any, str]] = [
    ("embeddings", X[0], f"[{DIM}]"),
    ("embeddings", X[None], "[1, 12"),
    ("embeddings", X.long(), "int64"),
    ("embeddings", X > 0, "bool"),
    ("embeddings", X.to(torch.complex64), "complex64"),
    ("embeddings", X.float().to(FLOAT8), "float8"),
    ("embeddings", X.to_sparse(), "sparse"),
    ("embeddings", X.to_sparse_csr(), "sparse"),
    ("embeddings", X.numpy(), "ndarray"),
    ("embeddings", X.tolist(), "list"),
    ("embeddings", None, "None"),
    ("labels", Y[:-1], "[11]"),
    ("labels", torch.stack((Y, Y), 1), "[12, 2]"),
    ("labels", Y[None], "[1, 12]"),
    ("labels", Y.float(), "float32"),
    ("labels", Y.tolist()[:-1], "11"),
    ("labels", [float(y) + 0.5 for y in Y], "float"),
    ("labels", [str(int(y)) for y in Y], "str"),
    ("labels", [[1, 2], [3]], "list"),
    ("labels", None, "None"),
    ("labels", 3, "int"),
    ("labels", Y.to_sparse(), "sparse"),
]
every_loss = pytest.mark.parametrize("name", ["MultiSimilarityLoss", "ProxyAnchorLoss", "ProxyNCALoss"])


@every_loss
@pytest.mark.parametrize(("argument", "value", "word"), BATCHES)
def test_batches_of_losses(name: str, argument: str, value: Any, word: str) -> None:
    given = {"embeddings": X, "labels": Y, argument: value}
    refused(attempt(lambda: float(make_loss(name)(**given))), argument, word)


@pytest.mark.parametrize("labels", [spoil(Y, 0, 4), spoil(Y, 0, -1), spoil(Y, 0, 2**40), spoil(Y, 0, -(2**63))])
@pytest.mark.parametrize("name", ["ProxyAnchorLoss", "ProxyNCALoss", "ProxyNCAPlusPlusLoss"])
def test_labels_beyond_the_proxies(name: str, labels: Tensor) -> None:
    refused(attempt(lambda: float(make_loss(name)(X, labels))), "labels", "0 to 3")


def test_unsigned_labels_beyond_the_proxies() -> None:
    """2^64 - 1 is not -1."""
    labels = spoil(Y, 0, -1).to(torch.uint64)
    refused(attempt(lambda: float(make_loss("ProxyNCALoss")(X, labels))), "labels", "0 to 3")


REFERENCES: list[tuple[str, Any, str]] = [
    ("ref_emb", X[:, :-1], f"[12, {DIM - 1}]"),
    ("ref_emb", X[0], f"[{DIM}]"),
    ("ref_emb", X.long(), "int64"),
    ("ref_emb", X.to_sparse(), "sparse"),
    ("ref_emb", X.float().to(FLOAT8), "float8"),
    ("ref_emb", X.tolist(), "list"),
    ("ref_emb", None, ""),
    ("ref_labels", Y[:-1], "[11]"),
    ("ref_labels", Y.float(), "float32"),
    ("ref_labels", None, ""),
]


@pytest.mark.parametrize(("argument", "value", "word"), REFERENCES)
def test_references(argument: str, value: Any, word: str) -> None:
    given = {"ref_emb": X.clone(), "ref_labels": Y, argument: value}
    refused(attempt(lambda: float(make_loss("MultiSimilarityLoss")(X, Y, **given))), argument, word)


def mixed(mix: str, pool: str = "max", **given: Any) -> float:
    criterion = mx.Metrix(make_loss("MultiSimilarityLoss"), mix=mix, pairs="pos-neg")
    by_mix = {} if mix == "embed" else {"source": MAPS, "encode": make_head(pool)}
    return float(criterion(**{"embeddings": X, "labels": Y, **by_mix, **given}).detach())


FLAT: Callable[[Tensor], Tensor] = lambda x: x.flatten(1)[:, :DIM]  # noqa: E731
EMBEDDED: list[tuple[str, Any, str]] = [
    ("seed", 1.5, "1.5"),
    ("seed", "1", "1"),
    ("seed", 2**63, str(2**63)),
    ("seed", True, "True"),
    ("seed", torch.tensor(1.5), "float32"),
    ("seed", torch.tensor([1, 2]), "[2]"),
]


@pytest.mark.parametrize(("argument", "value", "word"), EMBEDDED)
def test_calls_of_embedding_mixup(argument: str, value: Any, word: str) -> None:
    refused(attempt(lambda: mixed("embed", **{argument: value})), argument, word)


@pytest.mark.parametrize(
    ("lam", "word"),
    [
        (torch.full((12, 12), 1.5), "1.5"),
        (spoil(torch.full((12, 12), 0.5), (3, 4), NAN), "nan"),
        (torch.full((12, 11), 0.5), "[12, 11]"),
        (torch.full((12,), 0.5), "[12]"),
        (NAN, "nan"),
        ("x", "x"),
        ([0.5], "list"),
    ],
)
def test_lam_of_mixed_loss(lam: Any, word: str) -> None:
    criterion = mx.Metrix(make_loss("MultiSimilarityLoss"), mix="embed")
    refused(attempt(lambda: float(criterion.mixed_loss(X, Y, lam=lam))), "lam", word)


FEATURES: list[tuple[str, Any, str]] = [
    ("source", MAPS[:-1], "[11"),
    ("source", MAPS[:, :-1], f"{CHANNELS}"),
    ("source", MAPS[:, :, 0], "[12"),
    ("source", MAPS[:, :, :0], "0"),
    ("source", MAPS[:, :, :0, :0], "0"),
    ("source", MAPS.long(), "int64"),
    ("source", MAPS.to(torch.complex64), "complex64"),
    ("source", MAPS.float().to(FLOAT8), "float8"),
    ("source", MAPS.to_sparse(), "sparse"),
    ("source", MAPS.numpy(), "ndarray"),
    ("source", None, "feature"),
    ("source", {"input": MAPS}, "feature"),
    ("encode", None, "feature"),
    ("encode", 3, "int"),
    ("encode", {"input": make_head()}, "feature"),
    ("encode", lambda x: (FLAT(x), None), "tuple"),
    ("encode", lambda x: {"embedding": FLAT(x)}, "dict"),
    ("encode", lambda x: None, "None"),
    ("encode", lambda x: FLAT(x).long(), "int64"),
    ("encode", lambda x: x, "[12"),
]


def mixed_features(pool: str, row: int) -> float:
    argument, value, _ = FEATURES[row]
    return mixed("feature", pool, **{argument: value})


@pytest.mark.parametrize("pool", ["avg", "max", "avg+max"])
@pytest.mark.parametrize("row", range(len(FEATURES)), ids=[f"{name}-{word}" for name, _, word in FEATURES])
def test_calls_of_feature_mixup(pool: str, row: int) -> None:
    """A tensor that the head would refuse is called source or features. Each in a process: some end it."""
    argument, _, word = FEATURES[row]
    outcome = isolated(mixed_features, pool, row)
    named = "features" if outcome.error and "features" in outcome.error[1] else argument
    refused(outcome, named, word)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64, torch.bool])
def test_images_of_integers_are_refused_by_input_mixup(dtype: torch.dtype) -> None:
    """A mix of integers is none: whole numbers would be cut off without a word."""
    images = (MAPS * 100).to(dtype)
    outcome = attempt(lambda: mixed("input", source=images, encode=lambda x: FLAT(x).double()))
    refused(outcome, "source", str(dtype).removeprefix("torch."))


@pytest.mark.parametrize("pool", ["avg", "max", "avg+max"])
@pytest.mark.parametrize(
    ("features", "word"),
    [
        (MAPS[:, :, :0, :0], "0"),
        (MAPS[:, :, :0], "0"),
        (MAPS[0], f"[{CHANNELS}, 3, 3]"),
        (MAPS[:, :-1], f"{CHANNELS}"),
        (MAPS.long(), "int64"),
        (MAPS.tolist(), "list"),
        (MAPS.to_sparse(), "sparse"),
    ],
)
def test_features_of_a_head(pool: str, features: Any, word: str) -> None:
    """What is no [n, c, h, w] of floats with the head's channels."""
    refused(attempt(lambda: make_head(pool)(features)), "features", word)


@pytest.mark.parametrize("mix", ["embed", "feature"])
def test_double_features_into_a_float_head(mix: str) -> None:
    head = make_head("max", dtype=torch.float32)
    call = (lambda: head(MAPS)) if mix == "embed" else (lambda: mixed("feature", encode=head))
    refused(attempt(call), "features", "float64", "float32") if mix == "embed" else _refused_or_promoted(call)


def _refused_or_promoted(call: Callable[[], float]) -> None:
    """Mixing may promote, which is exact; it must not fail otherwise."""
    outcome = attempt(call)
    if outcome.error is not None:
        refused(outcome, "float64", "float32")


RETRIEVAL: list[tuple[str, Any, str]] = [
    *(
        ("k", value, word)
        for value, word in ((0, "0"), (1.5, "1.5"), ("1", "1"), (None, "None"), ([], "[]"), (True, "True"))
    ),
    ("k", {"a": 1}, "a"),
    ("embeddings", X.to_sparse(), "sparse"),
    ("embeddings", X.float().to(FLOAT8), "float8"),
    ("embeddings", spoil(X, (0, 0), NAN), "NaN"),
    ("labels", Y[:-1], "[11]"),
    ("labels", Y.float(), "float32"),
    ("gallery", X[:, :-1], "5"),
    ("gallery", X[:0], "[0, 6]"),
]


@pytest.mark.parametrize(("argument", "value", "word"), RETRIEVAL)
def test_retrieval(argument: str, value: Any, word: str) -> None:
    given = {"embeddings": X, "labels": Y, "k": 2}
    given |= {"gallery": X, "gallery_labels": Y} if argument == "gallery" else {}
    refused(attempt(lambda: mx.retrieval.recall_at_k(**{**given, argument: value})), argument, word)


@pytest.mark.parametrize("name", ["gpu", "", None, 3, ["cpu"]])
def test_backends(name: Any) -> None:
    refused(attempt(lambda: mx.use_backend(name).__enter__()), "use_backend", str(name))
