"""Infinities and NaN: every backend gives what the plain formula gives, in log space, over the terms that are used.

The decision, for every loss and set of pairs. A sum of exponentials is log sum_k y_k e^(t_k) = logsumexp(log y_k + t_k)
over the terms of the set with y_k > 0, as torch.logsumexp defines it: +inf if a t_k is +inf, -inf if all are -inf, NaN
if one is NaN. A linear sum is sum_k y_k rho(s_k) over the same terms. sigma and tau follow as written (a NaN stays one,
and relu(-inf) = 0), with the arithmetic of floating point: inf - inf is NaN. Terms outside the set, and terms of weight
0, do not matter whatever they are. Only a set without terms makes an anchor's loss 0; a set whose terms are all
e^-inf = 0 is not empty, its logarithm is -inf. A similarity of a row with inf is what the products give, a norm of inf
turns the finite entries of a row into 0 and the others into NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import metrix_ext as mx
from metrix_ext.ops.pair_sums import pair_sums
from metrix_ext.terms.formula import Formula, Rho
from metrix_ext.terms.relations import Relations

from .support import CLASSES, LOSSES, make_batch, make_loss

BAD = {"-inf": -math.inf, "+inf": math.inf, "nan": math.nan}
LAM = 0.3
SETS = ("clean", "pos-neg", "anc-neg", "pos-pos", "neg-neg", "anc-pos")
every_bad = pytest.mark.parametrize("bad", BAD)


# ---- the plain formula ------------------------------------------------------------------------------------


def terms_of(
    pairs: str, s: Tensor, own: Tensor, positive: list[int], negative: list[int]
) -> Iterator[tuple[float, Tensor]]:
    """Label and similarity of every term of an anchor with similarities s [n] and s(a, a) = own."""
    if pairs == "clean":
        yield from ((1.0, s[i]) for i in positive)
        yield from ((0.0, s[i]) for i in negative)
    elif pairs == "pos-neg":
        yield from ((LAM, LAM * s[i] + (1 - LAM) * s[j]) for i in positive for j in negative)
    elif pairs.startswith("anc-"):
        label, members = (LAM, negative) if pairs == "anc-neg" else (1.0, positive)
        yield from ((label, LAM * own + (1 - LAM) * s[j]) for j in members)
    else:
        label, members = (1.0, positive) if pairs == "pos-pos" else (0.0, negative)
        yield from ((label, LAM * s[i] + (1 - LAM) * s[j]) for i in members for j in members if i < j)


def plain_sum(rho: Rho, weighted: list[tuple[float, Tensor]]) -> Tensor | None:
    """Over terms of weight and similarity; None of no terms."""
    used = [(y, s) for y, s in weighted if y > 0]
    if not used:
        return None
    if rho.exponential:
        return torch.logsumexp(torch.stack([math.log(y) + rho.scale * s + rho.shift for y, s in used]), 0)
    values = [rho.scale * s + rho.shift for _, s in used]
    return sum(y * (t.clamp_min(rho.floor)) for (y, _), t in zip(used, values, strict=True))


def plain_loss_of_anchor(formula: Formula, terms: list[tuple[float, Tensor]]) -> Tensor:
    weighted = [(y, s) for y, s in terms], [(1 - y, s) for y, s in terms]
    sums = [plain_sum(rho, side) for rho, side in zip(formula.rho, weighted, strict=True)]
    zero = torch.zeros((), dtype=torch.float64)
    if formula.sigma[0].kind == "log" and None in sums:
        return zero
    parts = []
    for sigma, total in zip(formula.sigma, sums, strict=True):
        if total is not None:
            total = torch.logaddexp(total, zero) if sigma.kind == "log1p" else total
            parts.append(sigma.scale * total)
    value = sum(parts, zero)
    return value.relu() if formula.tau == "relu" else value


def plain_loss(loss: torch.nn.Module, x: Tensor, labels: Tensor, pairs: str) -> Tensor:
    """The mean over the anchors."""
    proxies = loss.proxies.detach() if hasattr(loss, "proxies") else None
    classes = torch.arange(CLASSES)
    anchors, anchor_labels = (proxies, classes) if loss.anchors == "proxies" else (x, labels)
    examples, example_labels = (proxies, classes) if loss.candidates == "proxies" else (x, labels)
    if loss.normalize:
        anchors, examples = F.normalize(anchors), F.normalize(examples)
    same = anchor_labels[:, None] == example_labels
    own = torch.eye(len(same), dtype=torch.bool) if proxies is None else torch.zeros_like(same)
    losses = []
    for a, anchor in enumerate(anchors):
        sets = [(chosen.nonzero()[:, 0].tolist()) for chosen in (same[a] & ~own[a], ~same[a])]
        terms = terms_of(pairs, (examples * anchor).sum(1), (anchor * anchor).sum(), *sets)
        losses.append(plain_loss_of_anchor(loss.formula, list(terms)))
    return torch.stack(losses).mean()


def with_bad_entry(bad: str) -> tuple[Tensor, Tensor]:
    x, labels = make_batch()
    x[4, 2] = BAD[bad]
    return x, labels


# ---- the losses -------------------------------------------------------------------------------------------


@every_bad
@pytest.mark.parametrize("normalize", [False, True], ids=["as they are", "normalised"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_bad_entry_of_the_embeddings(backend: str, name: str, normalize: bool, bad: str) -> None:
    options = {"variant": "paper"} if name == "ProxyAnchorLoss" else {}
    loss = make_loss(name, normalize=normalize, **options)
    x, labels = with_bad_entry(bad)
    expected = plain_loss(loss, x, labels, "clean")
    torch.testing.assert_close(loss(x, labels).detach(), expected, equal_nan=True)


@every_bad
@pytest.mark.parametrize("pairs", SETS[1:])
@pytest.mark.parametrize("name", LOSSES)
def test_a_bad_entry_of_embeddings_that_are_mixed(backend: str, name: str, pairs: str, bad: str) -> None:
    options = {"variant": "paper"} if name == "ProxyAnchorLoss" else {}
    loss = make_loss(name, normalize=False, **options)
    x, labels = with_bad_entry(bad)
    made = mx.Metrix(loss, mix="embed").mixed_loss(x, labels, pairs=pairs, lam=torch.full((1,), LAM)).detach()
    expected = plain_loss(loss, x, labels, pairs)
    torch.testing.assert_close(made, expected, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "of_positive", "of_negative", "expected"),
    [
        ("NCALoss", -math.inf, 2.0, math.inf),
        ("NCALoss", 2.0, -math.inf, -math.inf),
        ("LiftedStructureLoss", 2.0, -math.inf, 0.0),
        ("LiftedStructureLoss", math.inf, 2.0, 0.0),
        ("LiftedStructureLoss", -math.inf, 2.0, math.inf),
        ("MultiSimilarityLoss", math.inf, -math.inf, 0.0),
        ("ContrastiveLoss", -math.inf, 2.0, math.inf),
        ("ContrastiveLoss", 2.0, -math.inf, -2.0),
    ],
)
def test_a_set_of_terms_that_are_all_zero_is_not_empty(
    backend: str, name: str, of_positive: float, of_negative: float, expected: float
) -> None:
    """One anchor, one positive and one negative of these similarities: log 0 is -inf, and not a reason to skip it."""
    x, references = torch.tensor([[1.0]]), torch.tensor([[of_positive], [of_negative]])
    loss = make_loss(name, torch.float32, normalize=False)
    made = loss(x, torch.tensor([0]), ref_emb=references, ref_labels=torch.tensor([0, 1]))
    torch.testing.assert_close(float(made), expected)


# ---- the sums: one similarity -----------------------------------------------------------------------------

RHO = {
    "exponential": (Rho(-2.0, 1.0), Rho(3.0, -1.0)),
    "linear": (Rho(-1.0, exponential=False), Rho(1.0, -0.5, exponential=False, floor=0.0)),
}
PLACES = {"a positive's": (1, 2), "a negative's": (1, 8), "the anchor's own": (1, 1)}


@every_bad
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("rho", RHO)
@pytest.mark.parametrize("pairs", SETS)
def test_a_bad_similarity_matters_to_the_terms_that_have_it(
    backend: str, pairs: str, rho: str, place: str, bad: str
) -> None:
    """All other sums stay as they were."""
    x, _ = make_batch()
    labels = torch.arange(len(x)) // 4
    similarity = F.normalize(x) @ F.normalize(x).T
    similarity[PLACES[place]] = BAD[bad]
    relations = Relations.from_labels(labels, labels, torch.arange(len(x)))
    lam = None if pairs == "clean" else torch.full((1,), LAM, dtype=torch.float64)
    sums, *_ = pair_sums(similarity, relations, RHO[rho], pairs, lam)
    empty = torch.tensor(-math.inf if rho == "exponential" else 0.0, dtype=torch.float64)
    for a, s in enumerate(similarity):
        others = [i for i in range(len(x)) if i != a]
        positive, negative = ([i for i in others if (labels[i] == labels[a]) == same] for same in (True, False))
        terms = list(terms_of(pairs, s, s[a], positive, negative))
        sides = terms, [(1 - y, s) for y, s in terms]
        expected = [plain_sum(r, side) for r, side in zip(RHO[rho], sides, strict=True)]
        right = torch.stack([empty if e is None else e for e in expected])
        torch.testing.assert_close(sums[a], right, equal_nan=True, msg=lambda m, a=a: f"anchor {a}: {m}")


@every_bad
@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_a_bad_similarity_of_weight_zero_does_not_matter(backend: str, lam: float, bad: str) -> None:
    """lambda = 1: the second of a pair, a negative, is not in the mix, although 0 * inf is NaN."""
    x, labels = make_batch()
    loss = make_loss("MultiSimilarityLoss", normalize=False)
    criterion = mx.Metrix(loss, mix="embed")
    expected = criterion.mixed_loss(x, labels, pairs="pos-pos", lam=lam).detach()
    assert expected.isfinite()
    x[4, 2] = BAD[bad]
    made = criterion.mixed_loss(x, labels, pairs="pos-pos", lam=lam).detach()
    assert not made.isfinite() or torch.equal(made, expected)


# ---- gradients --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in LOSSES if not name.startswith("Proxy")])
def test_a_term_of_minus_infinity_leaves_finite_gradients_to_the_others(backend: str, name: str) -> None:
    """e^-inf = 0: where the sums are finite all the same, so are their gradients."""
    x, _ = make_batch()
    labels = torch.arange(len(x)) // 4
    similarity = F.normalize(x) @ F.normalize(x).T
    rho = make_loss(name).formula.rho
    side = 0 if rho[0].scale > 0 else 1
    similarity[(1, 2) if side == 0 else (1, 8)] = -math.inf
    similarity.requires_grad_()
    relations = Relations.from_labels(labels, labels, torch.arange(len(x)))
    sums, *_ = pair_sums(similarity, relations, rho)
    assert sums.detach().isfinite().all()
    sums.sum().backward()
    assert similarity.grad.isfinite().all()
