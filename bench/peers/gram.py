"""The reduction over the Gram matrix in plain PyTorch for classes of any size: all terms, masked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

import metrix_ext as mx
from metrix_ext import reference
from metrix_ext.ops import pair_lambda
from metrix_ext.terms.relations import Relations

if TYPE_CHECKING:
    from ..cases.pair_sums import PairSums


def pair_sums(problem: PairSums, labels: Tensor) -> Callable[[Tensor], Tensor]:
    formula = mx.losses.MultiSimilarityLoss().formula
    mixed, with_anchor = problem.pairs != "clean", problem.pairs.startswith("anc-")
    lam = given_lambda(problem, labels.device) if mixed else None

    def step(embeddings: Tensor) -> Tensor:
        x = F.normalize(embeddings)
        s = x @ x.T
        relations = Relations.from_labels(labels, labels, torch.arange(len(x), device=x.device))
        own = s.diagonal() if with_anchor else None
        norms = (s, own if with_anchor else None) if mixed and problem.renormalize else (None, None)
        sums, _ = reference.pair_sums(
            s, relations, formula.rho, problem.pairs, lam, *norms, own, own if norms[0] is not None else None
        )
        return formula.per_anchor(sums).mean()

    return step


def compiled(problem: PairSums, labels: Tensor) -> Callable[[Tensor], Tensor]:
    """The same under torch.compile."""
    return torch.compile(pair_sums(problem, labels), fullgraph=True, dynamic=False)


def given_lambda(problem: PairSums, device: torch.device) -> Tensor:
    """[n, n], drawn before the time is taken; empty for the clean loss."""
    n = problem.n
    if problem.pairs == "clean":
        return torch.empty(0, device=device)
    if problem.lam is not None:
        return torch.full((n, n), problem.lam, device=device)
    index = torch.arange(n)
    return pair_lambda(n, index, index, 2.0, torch.float32).to(device)
