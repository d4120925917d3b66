"""The definitions, in plain PyTorch, to read next to the paper and to test everything else against.

``clean_loss`` and ``mixed_loss`` are Eq. (7), (9) and (10) to the letter: they form every mixed embedding of every
anchor. The functions named as the ops define those: the reduction over the Gram matrix with all m n^2 terms in memory,
lambda of a pair, pooled mixes of feature maps, sums over listed mixes. All are differentiable, on any device, in any
floating-point type.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from scipy.special import betaincinv
from torch import Tensor

from ..terms.formula import AnchorSums

if TYPE_CHECKING:
    from ..losses import TableLoss
    from ..terms.formula import Rho
    from ..terms.mixes import Mixes
    from ..terms.relations import Relations

Pairs = tuple[Tensor, Tensor]  # indices of the first and the second of each pair


# ---- one sum of Eq. (7) or (9) ------------------------------------------------------------------------------


def log_sum(exponents: Tensor, weights: Tensor) -> Tensor:
    """log sum_k weights_k e^(exponents_k) over the last dimension; minus infinity, with no gradient, if it is empty."""
    if exponents.shape[-1] == 0:
        return exponents.sum(-1) - math.inf
    exponents = exponents.masked_fill(weights == 0, -math.inf)
    top = exponents.detach().amax(-1)
    top = top.masked_fill(top == -math.inf, 0.0)
    total = (weights * (exponents - top[..., None]).exp()).sum(-1)
    empty = total == 0
    return (total.masked_fill(empty, 1.0).log() + top).masked_fill(empty, -math.inf)


def weighted_sum(rho: Rho, s: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """sum of weights * rho(s) over the last dimension, as a logarithm if rho is exponential.

    Returns:
        The sum, and the number of terms that are not 0 (linear rho; 0 otherwise).
    """
    # A term without weight must not matter even if it is not finite.
    s = s.masked_fill(weights == 0, 0.0)
    if rho.exponential:
        total = log_sum(rho.exponent(s), weights)
        return total, torch.zeros_like(total)
    terms = weights * rho(s)
    return terms.sum(-1), (terms != 0).sum(-1).to(s.dtype)


def both_sums(rho: tuple[Rho, Rho], s: Tensor, y: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """The positive and the negative sum over terms of similarity s and label y; [..., 2] each, as weighted_sum."""
    y = y.to(s.dtype)
    positive = weighted_sum(rho[0], s, y * used)
    negative = weighted_sum(rho[1], s, (1 - y) * used)
    sums, nonzero = zip(positive, negative, strict=True)
    return torch.stack(sums, -1), torch.stack(nonzero, -1)


# ---- the losses, to the letter ------------------------------------------------------------------------------


def candidate_sets(
    loss: TableLoss,
    embeddings: Tensor,
    labels: Tensor,
    indices_tuple: tuple[Tensor, ...] | None = None,
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Anchors [m, d], examples [n, d], and P(a) and N(a) as booleans [m, n]."""
    examples, example_labels = embeddings, labels
    if ref_emb is not None and ref_labels is not None:
        examples, example_labels = ref_emb, ref_labels
    own = examples is embeddings and example_labels is labels
    anchors, anchor_labels = embeddings, labels
    if loss.anchors == "proxies":
        anchors, anchor_labels, own = loss.proxies, torch.arange(len(loss.proxies), device=labels.device), False
    if loss.candidates == "proxies":
        examples, example_labels = loss.proxies, torch.arange(len(loss.proxies), device=labels.device)
        own = False
    same = anchor_labels[:, None] == example_labels[None, :]
    positive, negative = same, ~same
    if own:
        positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    if indices_tuple is not None:
        positive_pairs, negative_pairs = torch.zeros_like(same), torch.zeros_like(same)
        if len(indices_tuple) == 3:
            a, p, n = indices_tuple
            a1, a2 = a, a
        else:
            a1, p, a2, n = indices_tuple
        positive_pairs[a1, p] = True
        negative_pairs[a2, n] = True
        positive, negative = positive_pairs, negative_pairs
    if loss.normalize:
        anchors, examples = F.normalize(anchors), F.normalize(examples)
    return anchors, examples, positive, negative


def clean_loss(
    loss: TableLoss,
    embeddings: Tensor,
    labels: Tensor,
    indices_tuple: tuple[Tensor, ...] | None = None,
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
) -> Tensor:
    """Eq. (7), combined over anchors as the loss says (the mean, Eq. 10). Arguments as of the loss itself."""
    anchors, examples, positive, negative = candidate_sets(loss, embeddings, labels, indices_tuple, ref_emb, ref_labels)
    sums, nonzero = [], []
    for a in range(len(anchors)):
        s = examples @ anchors[a]
        sums_a, nonzero_a = both_sums(loss.formula.rho, s, positive[a], positive[a] | negative[a])
        sums.append(sums_a)
        nonzero.append(nonzero_a)
    terms = torch.stack((positive.sum(1), negative.sum(1)), 1)
    return loss.combine(AnchorSums(_stack(sums, embeddings), lambda: terms, _stack(nonzero, embeddings)))


def mixing_pairs(pairs: str, positives: Tensor, negatives: Tensor) -> tuple[Pairs, float | None]:
    """M(a) of one anchor, and the label of its mixes: 1, 0, or None where it is lambda.

    Args:
        positives, negatives: indices of P(a) and N(a). The anchor itself is -1.
    """
    anchor = torch.full((1,), -1, dtype=torch.int64, device=positives.device)
    if pairs == "pos-neg":
        return _product(positives, negatives), None
    if pairs == "anc-neg":
        return _product(anchor, negatives), None
    if pairs == "anc-pos":
        return _product(anchor, positives), 1.0
    members, label = (positives, 1.0) if pairs == "pos-pos" else (negatives, 0.0)
    i, j = torch.triu_indices(len(members), len(members), 1, device=members.device)
    return (members[i], members[j]), label


def mixed_loss(
    loss: TableLoss,
    embeddings: Tensor,
    labels: Tensor,
    pairs: str,
    lam: float | Tensor,
    source: Tensor | None = None,
    encode: Callable[[Tensor], Tensor] | None = None,
    renormalize: bool = False,
    hard_negatives: int | None = None,
    indices_tuple: tuple[Tensor, ...] | None = None,
) -> Tensor:
    """Eq. (9), combined over anchors as the loss says.

    Args:
        lam: a number, or a matrix by (first, second) of a pair, where the first of anc-neg and anc-pos is the anchor.
        source, encode: as of Metrix; embeddings are mixed where they are missing.
        renormalize: whether mixed embeddings get unit norm; mixes of a source always do, if the loss normalises.
        hard_negatives: keep for each anchor that many negatives of highest similarity.
    """
    anchors, examples, positive, negative = candidate_sets(loss, embeddings, labels, indices_tuple)
    sums, nonzero, terms = [], [], []
    for a in range(len(anchors)):
        negatives = negative[a].nonzero()[:, 0]
        if hard_negatives is not None:
            order = (examples[negatives] @ anchors[a]).argsort(descending=True, stable=True)
            negatives = negatives[order[:hard_negatives]].sort().values
        (i, j), label = mixing_pairs(pairs, positive[a].nonzero()[:, 0], negatives)
        row = torch.where(i < 0, a, i)
        lam_ij = lam[row, j] if isinstance(lam, Tensor) else torch.full_like(j, lam, dtype=anchors.dtype)
        if source is None or encode is None:
            first = anchors[a].expand(len(i), -1) if pairs.startswith("anc-") else examples[i]
            v = _mix(lam_ij, first, examples[j])
            v = F.normalize(v) if renormalize else v
        else:
            v = encode(_mix(lam_ij, source[row], source[j]))
            v = F.normalize(v) if loss.normalize else v
        y = lam_ij if label is None else torch.full_like(lam_ij, label)
        sums_a, nonzero_a = both_sums(loss.formula.rho, v @ anchors[a], y, torch.ones_like(y))
        sums.append(sums_a)
        nonzero.append(nonzero_a)
        terms.append(torch.tensor([len(i) * (label != 0.0), len(i) * (label != 1.0)], device=labels.device))
    of_mixes = AnchorSums(_stack(sums, embeddings), lambda: _stack(terms, labels), _stack(nonzero, embeddings))
    return loss.combine(of_mixes)


def _mix(lam: Tensor, x: Tensor, other: Tensor) -> Tensor:
    """mix(x, x') = lambda x + (1 - lambda) x' for every row."""
    lam = lam.reshape(-1, *[1] * (x.dim() - 1)).to(x.dtype)
    return lam * x + (1 - lam) * other


def _product(first: Tensor, second: Tensor) -> Pairs:
    return first.repeat_interleave(len(second)), second.repeat(len(first))


def _stack(rows: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(rows) if rows else like.new_zeros((0, 2))


# ---- the ops ------------------------------------------------------------------------------------------------


def pair_sums(
    similarity: Tensor,
    relations: Relations,
    rho: tuple[Rho, Rho],
    pairs: str = "clean",
    lam: Tensor | None = None,
    gram: Tensor | None = None,
    sqnorm: Tensor | None = None,
    self_similarity: Tensor | None = None,
    self_sqnorm: Tensor | None = None,
    first_row: int = 0,
) -> tuple[Tensor, Tensor]:
    """What metrix_ext.ops.pair_sums computes, with all m n^2 terms of a set within the examples in memory."""
    m, n = similarity.shape
    mask = relations.dense(n)
    positive, negative = mask == 1, mask == -1
    if pairs == "clean":
        return both_sums(rho, similarity, positive, positive | negative)
    assert lam is not None
    if pairs.startswith("anc-"):
        if self_similarity is None:  # the anchors are the examples
            self_similarity = similarity.diagonal()
            self_sqnorm = None if gram is None else gram.diagonal()
            sqnorm = self_sqnorm if sqnorm is None else sqnorm
        s = lam * self_similarity[:, None] + (1 - lam) * similarity
        used = negative if pairs == "anc-neg" else positive
        if gram is not None:
            assert self_sqnorm is not None
            s = s / _mixed_norm(lam, self_sqnorm[:, None], sqnorm, gram)
        label = lam.expand(m, n)
    else:
        r = len(lam) if lam.numel() != 1 else n if gram is None else len(gram)
        rows = slice(first_row, first_row + r)
        s = lam * similarity[:, rows, None] + (1 - lam) * similarity[:, None, :]
        first = negative if pairs == "neg-neg" else positive
        second = positive if pairs == "pos-pos" else negative
        used = first[:, rows, None] & second[:, None, :]
        if pairs != "pos-neg":
            used = used & torch.ones(r, n, dtype=torch.bool, device=used.device).triu(first_row + 1)
        if gram is not None:
            sqnorm = gram.diagonal() if sqnorm is None else sqnorm
            s = s / _mixed_norm(lam, sqnorm[rows, None], sqnorm, gram)
        label = lam.expand(r, n).expand(m, r, n)
    if pairs in ("pos-pos", "anc-pos"):
        label = torch.ones_like(label)
    elif pairs == "neg-neg":
        label = torch.zeros_like(label)
    return both_sums(rho, s.flatten(1), label.flatten(1), used.flatten(1))


def mix_pool(features: Tensor, order: Tensor, mixes: Mixes, averages: Tensor | None = None) -> Tensor:
    """What metrix_ext.ops.mix_pool computes, with all mixed maps in memory."""

    def mix(x: Tensor) -> Tensor:
        lam = mixes.lam.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1))
        return torch.lerp(x[order[mixes.second]], x[order[mixes.first]], lam)

    pooled = F.max_pool2d(mix(features), features.shape[-2:]).flatten(1)
    return pooled if averages is None else (pooled + mix(averages)).to(features.dtype)


def anchor_sums(
    mixed: Tensor,
    anchors: Tensor,
    relations: Relations,
    rho: tuple[Rho, Rho],
    pairs: str,
    mixes: Mixes,
    both_orders: bool,
    normalize: bool,
) -> tuple[Tensor, Tensor]:
    """What metrix_ext.ops.anchor_sums computes, with all m p similarities in memory."""
    mask, i, j, lam = relations.dense(mixes.examples), mixes.first, mixes.second, mixes.lam
    with_anchor = pairs.startswith("anc-")

    def uses(first: Tensor, second: Tensor) -> Tensor:
        if with_anchor:
            is_first = relations.self_index[:, None] == first
        else:
            is_first = mask[:, first] == (-1 if pairs == "neg-neg" else 1)
        return is_first & (mask[:, second] == (1 if pairs in ("anc-pos", "pos-pos") else -1))

    forward = uses(i, j)
    used = forward | uses(j, i) if both_orders else forward
    if pairs in ("pos-pos", "anc-pos"):
        y = torch.ones_like(lam)
    elif pairs == "neg-neg":
        y = torch.zeros_like(lam)
    else:
        y = torch.where(forward, lam, 1 - lam)
    v = mixed.to(anchors.dtype)
    similarity = anchors @ (F.normalize(v) if normalize else v).T
    return both_sums(rho, similarity, y.expand(used.shape), used)


def _mixed_norm(lam: Tensor, q_i: Tensor, q_j: Tensor | None, k_ij: Tensor) -> Tensor:
    assert q_j is not None
    square = lam**2 * q_i + (1 - lam) ** 2 * q_j + 2 * lam * (1 - lam) * k_ij
    return square.clamp_min(1e-24).sqrt()


def pair_lambda(
    seed: int | Tensor, rows: Tensor, columns: Tensor, alpha: float = 2.0, dtype: torch.dtype = torch.float64
) -> Tensor:
    """What metrix_ext.ops.pair_lambda computes, with the quantile function of SciPy."""
    low = torch.minimum(rows[:, None], columns[None, :])
    high = torch.maximum(rows[:, None], columns[None, :])
    word = philox((low, high), int(seed))
    u = (word.cpu().double() + 0.5) * 2.0**-32
    quantile = torch.from_numpy(betaincinv(alpha, alpha, u.clamp(max=0.5).minimum(1 - u).numpy()))
    lam = torch.where(u < 0.5, quantile, 1 - quantile).to(rows.device, dtype)
    lam = torch.where(rows[:, None] > columns[None, :], 1 - lam, lam)
    return lam.masked_fill(rows[:, None] == columns[None, :], 0.5)


def philox(counter: Pairs, key: int) -> Tensor:
    """First output word of Philox-4x32-10 (Salmon et al. 2011) for a counter of two 64-bit integers."""
    low32 = 0xFFFFFFFF
    c0, c1 = counter[0] & low32, counter[1] & low32
    c2, c3 = counter[0] >> 32, counter[1] >> 32
    k0, k1 = key & low32, (key >> 32) & low32
    for _ in range(10):
        high0, low0 = _multiply(0xD2511F53, c0)
        high1, low1 = _multiply(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & low32, (k1 + 0xBB67AE85) & low32
    return c0


def _multiply(factor: int, x: Tensor) -> Pairs:
    """High and low 32 bits of a product of 32-bit numbers, without the sign bit of int64 in the way."""
    low = factor * (x & 0xFFFF)
    middle = factor * (x >> 16) + (low >> 16)
    return middle >> 16, ((middle & 0xFFFF) << 16) | (low & 0xFFFF)
