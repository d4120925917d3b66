"""A strength of the mixed loss that follows from its gradient: w of Eq. (10) so that neither term drowns the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..batch.shares import sharing

EVERY = 10  # calls from one measurement to the next, each of which is a backward pass down to the embeddings
KEPT = 0.9  # of a running mean, at every measurement


class GradientBalance(nn.Module):
    """w = share |dl/dz| / |dl~/dz|, z being the embeddings [n, d], from running means of both norms.

    A set of pairs has means of its own. The norms are measured at its first call and at every tenth after it, in
    training mode and where the embeddings need a gradient; those that are not finite are left out.

    Args:
        share: of the mixed term in the clean one.
        unmeasured: the strength by set of pairs, as long as nothing is known.

    Attributes:
        norms: [sets, 2] running means, of the clean and of the mixed loss.
        measured: [sets], how often.
    """

    norms: Tensor
    measured: Tensor

    def __init__(self, share: float, unmeasured: Mapping[str, float]) -> None:
        super().__init__()
        self.share = share
        self.unmeasured = dict(unmeasured)
        self.calls = dict.fromkeys(self.unmeasured, 0)
        self._row = {pairs: row for row, pairs in enumerate(self.unmeasured)}
        self.register_buffer("norms", torch.zeros(len(self._row), 2, dtype=torch.float64))
        self.register_buffer("measured", torch.zeros(len(self._row), dtype=torch.int64))

    def forward(self, pairs: str, embeddings: Tensor, clean: Tensor, mixed: Tensor) -> Tensor:
        """w, a scalar in the type of the losses, on their device, which is not waited for.

        Args:
            embeddings: [n, d], which both losses are functions of.
            clean, mixed: l and l~ of this call, scalars.
        """
        if self.training and torch.is_grad_enabled() and embeddings.requires_grad and self._is_due(pairs):
            self._measure(pairs, embeddings, clean, mixed)
        return self.strength(pairs).to(mixed)

    def strength(self, pairs: str) -> Tensor:
        """w as it stands, in float64; 0 where the mixed loss has no gradient at all."""
        row = self._row[pairs]
        clean, mixed = self.norms[row]
        w = torch.where(mixed > 0, self.share * clean / mixed, 0.0)
        return torch.where(self.measured[row] > 0, w, self.unmeasured[pairs])

    def _is_due(self, pairs: str) -> bool:
        calls = self.calls[pairs]
        self.calls[pairs] += 1
        return calls % EVERY == 0

    @torch.compiler.disable
    def _measure(self, pairs: str, embeddings: Tensor, clean: Tensor, mixed: Tensor) -> None:
        row = self._row[pairs]
        gradients = [_gradient(loss, embeddings) for loss in (clean, mixed)]
        if processes := sharing():
            gradients = [processes.mean(gradient) for gradient in gradients]
        # The squares of half types may be beyond their range.
        now = torch.stack([torch.linalg.vector_norm(gradient.to(self.norms)) for gradient in gradients])
        kept = KEPT * (self.measured[row] > 0).to(self.norms)
        is_finite = now.isfinite().all()
        self.norms[row] = torch.where(is_finite, kept * self.norms[row] + (1 - kept) * now, self.norms[row])
        self.measured[row] += is_finite

    def get_extra_state(self) -> dict[str, int]:
        """The calls, which decide when the next measurement is due."""
        return dict(self.calls)

    def set_extra_state(self, state: Any) -> None:
        self.calls = {pairs: int(state[pairs]) for pairs in self.calls}


def _gradient(loss: Tensor, embeddings: Tensor) -> Tensor:
    if not loss.requires_grad:
        return torch.zeros_like(embeddings)
    return torch.autograd.grad(loss, embeddings, retain_graph=True, materialize_grads=True)[0]
