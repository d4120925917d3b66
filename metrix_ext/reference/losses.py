"""Eq. (7), (9) and (10) to the letter: every mixed embedding of every anchor is formed."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..terms.formula import AnchorSums, TableRow
from .sums import both_sums

Pairs = tuple[Tensor, Tensor]  # indices of the first and the second of each pair


def candidate_sets(
    loss: TableRow,
    embeddings: Tensor,
    labels: Tensor,
    indices_tuple: tuple[Tensor, ...] | None = None,
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    ref_self: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Anchors [m, d], examples [n, d], and P(a) and N(a) as booleans [m, n]."""
    examples, example_labels = embeddings, labels
    if ref_emb is not None and ref_labels is not None:
        examples, example_labels = ref_emb, ref_labels
    own = examples is embeddings and example_labels is labels and ref_self is None
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
    if ref_self is not None:
        positive = positive & (torch.arange(len(examples), device=labels.device) != ref_self[:, None])
    if loss.normalize:
        anchors, examples = F.normalize(anchors), F.normalize(examples)
    return anchors, examples, positive, negative


def clean_loss(
    loss: TableRow,
    embeddings: Tensor,
    labels: Tensor,
    indices_tuple: tuple[Tensor, ...] | None = None,
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    ref_self: Tensor | None = None,
) -> Tensor:
    """Eq. (7), combined over anchors as the loss says (the mean, Eq. 10). Arguments as of the loss itself."""
    anchors, examples, positive, negative = candidate_sets(
        loss, embeddings, labels, indices_tuple, ref_emb, ref_labels, ref_self
    )
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
    loss: TableRow,
    embeddings: Tensor,
    labels: Tensor,
    pairs: str,
    lam: float | Tensor,
    source: Tensor | None = None,
    encode: Callable[[Tensor], Tensor] | None = None,
    renormalize: bool = False,
    hard_negatives: int | None = None,
    indices_tuple: tuple[Tensor, ...] | None = None,
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    ref_self: Tensor | None = None,
    mixed_margins: tuple[float, float] | None = None,
) -> Tensor:
    """Eq. (9), combined over anchors as the loss says.

    Args:
        lam: a number, or a matrix by (first, second) of a pair, where the first of anc-neg and anc-pos is the anchor.
        source, encode: as of Metrix; embeddings are mixed where they are missing.
        renormalize: whether mixed embeddings get unit norm; mixes of a source always do, if the loss normalises.
        hard_negatives: keep for each anchor that many negatives of highest similarity.
        mixed_margins: (m+, m-), in place of the loss's own margin: a mix of label y is compared with y m+ + (1 - y) m-.
    """
    rho = loss.formula.with_margins(mixed_margins).rho
    anchors, examples, positive, negative = candidate_sets(
        loss, embeddings, labels, indices_tuple, ref_emb, ref_labels, ref_self
    )
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
        sums_a, nonzero_a = both_sums(rho, v @ anchors[a], y, torch.ones_like(y))
        sums.append(sums_a)
        nonzero.append(nonzero_a)
        terms.append(torch.tensor([len(i) * (label != 0.0), len(i) * (label != 1.0)], device=labels.device))
    of_mixes = AnchorSums(
        _stack(sums, embeddings), lambda: _stack(terms, labels), _stack(nonzero, embeddings), mixed=True
    )
    return loss.combine(of_mixes)


def _mix(lam: Tensor, x: Tensor, other: Tensor) -> Tensor:
    """mix(x, x') = lambda x + (1 - lambda) x' for every row."""
    lam = lam.reshape(-1, *[1] * (x.dim() - 1)).to(x.dtype)
    return lam * x + (1 - lam) * other


def _product(first: Tensor, second: Tensor) -> Pairs:
    return first.repeat_interleave(len(second)), second.repeat(len(first))


def _stack(rows: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(rows) if rows else like.new_zeros((0, 2))
