"""The losses of Table 1, clean (Eq. 7) and mixed (Eq. 9), by plain loops over anchors, examples and pairs.

An oracle for the tests, written from the specification alone: nothing here is shared with the package.
Similarities stay torch scalars, so that autograd gives the gradients. All of it runs in float64 unless the
loss says otherwise: in float32 the same loops measure what error a literal formula makes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.special import betaincinv
from torch import Tensor

PAIR_SETS = ("pos-neg", "anc-neg", "pos-pos", "neg-neg", "anc-pos")
LOSSES = ("contrastive", "lifted", "binomial", "ms", "pa", "nca", "proxynca", "proxynca++")
Lambda = float | Tensor


@dataclass(frozen=True)
class Loss:
    """One row of Table 1 with its parameters; those a row does not use are ignored."""

    name: str
    beta: float = 1.0
    gamma: float = 1.0
    margin: float = 0.0
    temperature: float = 1.0
    aggregate: str = "sum"
    variant: str = "paper"
    normalize: bool = True
    mixed_margins: tuple[float, float] | None = None  # of a mix with label 1 and of one with label 0
    dtype: torch.dtype = torch.float64


class Example(NamedTuple):
    """A labelled example as its anchor sees it; the flags say in which of the two sums it is a term."""

    s: Tensor
    y: float
    in_pos: bool
    in_neg: bool
    margin: float | None = None  # in place of the loss's own


def rho(loss: Loss, s: Tensor, positive: bool, margin: float | None = None) -> Tensor:
    """rho of the contrastive loss, log(rho) of all others; a margin is in place of the loss's own."""
    if margin is not None:
        return rho_with_margin(loss, s, positive, margin)
    b, g, m = loss.beta, loss.gamma, loss.margin
    match loss.name:
        case "contrastive":
            return -s if positive else torch.clamp(s - m, min=0.0)
        case "lifted":
            return -s if positive else s - m
        case "binomial" | "ms":
            return -b * (s - m) if positive else g * (s - m)
        case "pa":
            m_neg = -m if loss.variant == "original" else m
            return -b * (s - m) if positive else g * (s - m_neg)
        case "nca" | "proxynca":
            return s
        case "proxynca++":
            return s / loss.temperature
    raise ValueError(loss.name)


def rho_with_margin(loss: Loss, s: Tensor, positive: bool, margin: float) -> Tensor:
    match loss.name:
        case "contrastive":
            return -s if positive else torch.clamp(s - margin, min=0.0)
        case "lifted":
            return margin - s if positive else s - margin
        case "binomial" | "ms" | "pa":
            return loss.beta * (margin - s) if positive else loss.gamma * (s - margin)
    raise ValueError(loss.name)


def plain_sum(loss: Loss, terms: list[Tensor]) -> Tensor | float:
    """The contrastive sums, each divided by what `aggregate` says."""
    if not terms:
        return 0.0
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    if loss.aggregate == "mean":
        return total / len(terms)
    if loss.aggregate == "mean-nonzero":
        return total / max(1, sum(1 for term in terms if term.item() != 0.0))
    return total


def log_sum(log_terms: list[Tensor]) -> Tensor:
    return torch.logsumexp(torch.stack(log_terms), dim=0)


def sigma(loss: Loss, examples: list[Example], positive: bool) -> Tensor | float | None:
    """One of the two sums of Eq. (7)/(9) with its sigma; None where it is the logarithm of nothing."""
    terms = []
    for x in examples:
        weight = x.y if positive else 1.0 - x.y
        listed = x.in_pos if positive else x.in_neg
        if loss.name == "contrastive":
            if listed:
                terms.append(weight * rho(loss, x.s, positive, x.margin))
        elif listed and weight > 0.0:
            terms.append(math.log(weight) + rho(loss, x.s, positive, x.margin))
    if loss.name == "contrastive":
        return plain_sum(loss, terms)
    if loss.name in ("binomial", "ms", "pa"):
        scale = 1.0
        if loss.name == "ms" or (loss.name == "pa" and loss.variant == "paper"):
            scale = loss.beta if positive else loss.gamma
        return log_sum([*terms, torch.zeros_like(terms[0])]) / scale if terms else 0.0
    if not terms:
        return None
    sign = -1.0 if positive and loss.name != "lifted" else 1.0
    return sign * log_sum(terms)


def batch_loss(loss: Loss, examples_of: list[list[Example]], zero: Tensor, mixed: bool = False) -> Tensor:
    """The mean over all anchors; anchors whose loss is undefined count, with the value 0."""
    if not examples_of:
        return zero
    if loss.name == "pa" and loss.variant == "original":
        return original_proxy_anchor(loss, examples_of, zero, mixed)
    total = zero
    for examples in examples_of:
        pos, neg = sigma(loss, examples, True), sigma(loss, examples, False)
        if pos is None or neg is None:
            continue
        value = pos + neg
        if loss.name == "lifted":
            value = torch.clamp(torch.as_tensor(value), min=0.0)
        total = total + value
    return total / len(examples_of)


def original_proxy_anchor(loss: Loss, examples_of: list[list[Example]], zero: Tensor, mixed: bool) -> Tensor:
    """Mixed, each part is averaged over the proxies that have terms on that side; clean, the negative one over all."""
    pos, neg, proxies_with_positives, proxies_with_negatives = zero, zero, 0, 0
    for examples in examples_of:
        pos_part, neg_part = sigma(loss, examples, True), sigma(loss, examples, False)
        assert pos_part is not None
        assert neg_part is not None
        pos, neg = pos + pos_part, neg + neg_part
        proxies_with_positives += any(x.in_pos for x in examples)
        proxies_with_negatives += any(x.in_neg for x in examples)
    of_negatives = max(1, proxies_with_negatives) if mixed else len(examples_of)
    return pos / max(1, proxies_with_positives) + neg / of_negatives


def l2_normalize(x: Tensor) -> Tensor:
    """Row by row; a zero vector stays zero."""
    rows = [row / torch.clamp(torch.linalg.vector_norm(row), min=1e-12) for row in x]
    return torch.stack(rows) if rows else x


class Side(NamedTuple):
    """Anchors, candidates (what positives and negatives are taken from) and their labels."""

    anchors: Tensor
    anchor_labels: list[int]
    candidates: Tensor
    candidate_labels: list[int]
    own: list[int]  # the candidate that each anchor is itself, -1 for none


def sides(
    loss: Loss,
    embeddings: Tensor,
    labels: Tensor,
    proxies: Tensor | None,
    ref: tuple[Tensor, Tensor] | None,
    ref_self: Tensor | None = None,
) -> Side:
    def unit(x: Tensor) -> Tensor:
        return l2_normalize(x.to(loss.dtype)) if loss.normalize else x.to(loss.dtype)

    x, y = unit(embeddings), labels.tolist()
    if loss.name in ("pa", "proxynca", "proxynca++"):
        assert proxies is not None
        z, classes = unit(proxies), list(range(len(proxies)))
        nowhere = [-1] * max(len(z), len(x))
        return Side(z, classes, x, y, nowhere) if loss.name == "pa" else Side(x, y, z, classes, nowhere)
    if ref is not None:
        own = [-1] * len(x) if ref_self is None else ref_self.tolist()
        return Side(x, y, unit(ref[0]), ref[1].tolist(), own)
    return Side(x, y, x, y, list(range(len(x))))


def positives_negatives(side: Side, a: int) -> tuple[list[int], list[int]]:
    pos, neg = [], []
    for j, label in enumerate(side.candidate_labels):
        if label != side.anchor_labels[a]:
            neg.append(j)
        elif j != side.own[a]:
            pos.append(j)
    return pos, neg


def named(indices_tuple: Sequence[Tensor], a: int, pos: list[int], neg: list[int]) -> tuple[list[int], list[int]]:
    """Only the positives and negatives that a tuple of triplets (a, p, n) or pairs (a1, p, a2, n) names."""
    if len(indices_tuple) == 3:
        a1, p, n = (t.tolist() for t in indices_tuple)
        a2 = a1
    else:
        a1, p, a2, n = (t.tolist() for t in indices_tuple)
    pos_of_a = {j for i, j in zip(a1, p, strict=True) if i == a}
    neg_of_a = {j for i, j in zip(a2, n, strict=True) if i == a}
    return [j for j in pos if j in pos_of_a], [j for j in neg if j in neg_of_a]


def dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum()


def clean_loss(
    loss: Loss,
    embeddings: Tensor,
    labels: Tensor,
    proxies: Tensor | None = None,
    indices_tuple: Sequence[Tensor] | None = None,
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    ref_self: Tensor | None = None,
) -> Tensor:
    """Eq. (7), averaged over the anchors."""
    ref = None if ref_emb is None or ref_labels is None else (ref_emb, ref_labels)
    side = sides(loss, embeddings, labels, proxies, ref, ref_self)
    examples_of = []
    for a, anchor in enumerate(side.anchors):
        pos, neg = positives_negatives(side, a)
        if indices_tuple is not None:
            pos, neg = named(indices_tuple, a, pos, neg)
        examples = [Example(dot(anchor, side.candidates[p]), 1.0, True, False) for p in pos]
        examples += [Example(dot(anchor, side.candidates[n]), 0.0, False, True) for n in neg]
        examples_of.append(examples)
    return batch_loss(loss, examples_of, embeddings.to(loss.dtype).sum() * 0.0)


def pair_list(pairs: str, a: int, pos: list[int], neg: list[int]) -> list[tuple[int, int]]:
    """M(a) as index pairs; the first index has weight lambda, and for anc-* it is the anchor's."""
    match pairs:
        case "pos-neg":
            return [(p, n) for p in pos for n in neg]
        case "anc-neg":
            return [(a, n) for n in neg]
        case "anc-pos":
            return [(a, p) for p in pos]
        case "pos-pos":
            return [(i, j) for i in pos for j in pos if i < j]
        case "neg-neg":
            return [(i, j) for i in neg for j in neg if i < j]
    raise ValueError(pairs)


def labelled(loss: Loss, pairs: str, lam: float, s: Tensor) -> Example:
    margins = loss.mixed_margins or (None, None)
    if pairs in ("pos-pos", "anc-pos"):
        return Example(s, 1.0, True, False, margins[0])
    if pairs == "neg-neg":
        return Example(s, 0.0, False, True, margins[1])
    mixed = None if loss.mixed_margins is None else lam * loss.mixed_margins[0] + (1 - lam) * loss.mixed_margins[1]
    return Example(s, lam, True, True, mixed)


def hardest(side: Side, a: int, neg: list[int], k: int) -> list[int]:
    """The k negatives most similar to the anchor, ties to the lower index."""
    return sorted(neg, key=lambda j: (-dot(side.anchors[a], side.candidates[j]).item(), j))[:k]


class Mixer:
    """mix(x_i, x_j) as a point of the embedding space, each made once."""

    def __init__(
        self,
        first: Tensor,
        second: Tensor,
        lam: Lambda,
        encode: Callable[[Tensor], Tensor] | None,
        renormalize: bool,
    ):
        self.first, self.second, self.lam = first, second, lam
        self.encode, self.renormalize = encode, renormalize
        self.made: dict[tuple[int, int], Tensor] = {}

    def weight(self, i: int, j: int) -> float:
        return float(self.lam[i, j]) if isinstance(self.lam, Tensor) else float(self.lam)

    def __call__(self, i: int, j: int) -> Tensor:
        if (i, j) not in self.made:
            lam = self.weight(i, j)
            v = lam * self.first[i] + (1.0 - lam) * self.second[j]
            if self.encode is not None:
                v = self.encode(v[None])[0]
            if self.renormalize:
                v = l2_normalize(v[None])[0]
            self.made[i, j] = v
        return self.made[i, j]


def mixed_loss(
    loss: Loss,
    embeddings: Tensor,
    labels: Tensor,
    pairs: str,
    lam: Lambda,
    proxies: Tensor | None = None,
    source: Tensor | None = None,
    encode: Callable[[Tensor], Tensor] | None = None,
    renormalize: bool = False,
    hard_negatives: int | None = None,
    indices_tuple: Sequence[Tensor] | None = None,
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    ref_self: Tensor | None = None,
) -> Tensor:
    """Eq. (9), averaged over the anchors."""
    ref = None if ref_emb is None or ref_labels is None else (ref_emb, ref_labels)
    side = sides(loss, embeddings, labels, proxies, ref, ref_self)
    second = side.candidates if source is None else source
    first = second
    if pairs.startswith("anc-") and source is None:
        first = side.anchors
    mixer = Mixer(first, second, lam, encode, renormalize)
    examples_of = []
    for a, anchor in enumerate(side.anchors):
        pos, neg = positives_negatives(side, a)
        if indices_tuple is not None:
            pos, neg = named(indices_tuple, a, pos, neg)
        if hard_negatives is not None:
            neg = hardest(side, a, neg, hard_negatives)
        ms = pair_list(pairs, a, pos, neg)
        examples_of.append([labelled(loss, pairs, mixer.weight(i, j), dot(anchor, mixer(i, j))) for i, j in ms])
    return batch_loss(loss, examples_of, embeddings.to(loss.dtype).sum() * 0.0, mixed=True)


def philox4x32(counter: Sequence[int], key: Sequence[int], rounds: int = 10) -> tuple[int, int, int, int]:
    """Philox-4x32 of Salmon et al. 2011: a bijection of the 128-bit counter, chosen by a 64-bit key."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        left, right = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (
            (right >> 32) ^ c1 ^ k0,
            right & 0xFFFFFFFF,
            (left >> 32) ^ c3 ^ k1,
            left & 0xFFFFFFFF,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def lambda_of(seed: int, i: int, j: int, alpha: float) -> float:
    """The weight of i in the mix of i and j."""
    if i == j:
        return 0.5
    low, high = min(i, j), max(i, j)
    mask = 0xFFFFFFFF
    counter = (low & mask, high & mask, low >> 32, high >> 32)
    word = philox4x32(counter, (seed & mask, (seed >> 32) & mask))[0]
    lam = float(betaincinv(alpha, alpha, (word + 0.5) * 2.0**-32))
    return lam if i < j else 1.0 - lam


def pair_lambda(seed: int, rows: Sequence[int], cols: Sequence[int], alpha: float) -> Tensor:
    return torch.tensor(
        [[lambda_of(seed, int(i), int(j), alpha) for j in cols] for i in rows], dtype=torch.float64
    ).reshape(len(rows), len(cols))
