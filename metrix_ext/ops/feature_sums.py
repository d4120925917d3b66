"""Feature mixup through a PoolingHead with a maximum: Eq. (9) over mixes of feature maps, chunk by chunk.

A chunk of mixes is pooled (mix_pool), projected (a matrix product) and compared with the anchors of its examples
(anchor_sums). What fits into the workspace is kept for backward: all of a single chunk, and the projections of several;
the rest is formed again. One op, so that torch.compile sees one node however many chunks there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..terms.mixes import TILES, Mixes
from ..terms.pair_sets import unordered
from ..terms.relations import Relations
from ..terms.used_pairs import used_pairs
from .anchor_sums import list_arguments, run_anchor_sums, run_anchor_sums_backward
from .library import LIBRARY, implement, register_autograd
from .mix_pool import compute_dtype, fill, run_mix_pool_backward, strides

_ARGUMENTS = (
    "Tensor features, Tensor weight, Tensor? bias, Tensor anchors, Tensor order, Tensor positives, Tensor self_index, "
    "Tensor? mask, Tensor lam, str pairs, bool one_mix_per_pair, bool average, bool exponential, float[] rho, "
    "int workspace, bool[] wanted"
)
_TENSORS = _ARGUMENTS.count("Tensor")
LIBRARY.define(f"feature_sums({_ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)")
LIBRARY.define(
    "feature_sums_backward(Tensor grad_sums, Tensor sums, Tensor projected, Tensor pooled, Tensor argmax, "
    f"{_ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor)"
)


class _Problem(NamedTuple):
    """The arguments of both ops."""

    features: Tensor
    weight: Tensor
    bias: Tensor | None
    anchors: Tensor
    order: Tensor
    positives: Tensor
    self_index: Tensor
    mask: Tensor | None
    lam: Tensor
    pairs: str
    one_mix_per_pair: bool
    average: bool
    exponential: bool
    rho: list[float]
    workspace: int
    wanted: list[bool]  # whether features, weight and any of the others have a gradient

    @property
    def relations(self) -> Relations:
        return Relations(self.positives, self.self_index, self.mask)

    @property
    def averages(self) -> Tensor | None:
        return self.features.mean((2, 3), dtype=compute_dtype(self.features)) if self.average else None

    def chunks(self) -> Iterator[tuple[slice, Mixes, tuple[Any, ...]]]:
        """Where a chunk is in the list of all mixes, its mixes, and the arguments of anchor_sums after the anchors."""
        both_orders = self.one_mix_per_pair and not unordered(self.pairs)
        size = self._chunk_size()
        chunks = used_pairs(self.relations, self.pairs, self.one_mix_per_pair, len(self.order), size)
        for k, pairs in enumerate(chunks):
            at = slice(k * size, k * size + len(pairs))
            lam = self.lam[pairs.first, pairs.second] if self.lam.dim() == 2 else self.lam.expand(len(pairs))
            mixes = pairs.mixes(lam)
            lists = list_arguments(self.relations, self.pairs, mixes)
            yield at, mixes, (*lists, self.pairs, both_orders, True, self.exponential, self.rho)

    def _chunk_size(self) -> int:
        """Mixes at a time, in whole tiles if one fits: pooled and projected, their gradients, an int16 argmax."""
        bytes_of_element = self.features.element_size()
        channels, size = self.features.shape[1], self.weight.shape[0]
        bytes_of_mix = channels * (2 * bytes_of_element + 2) + size * 2 * bytes_of_element
        room = self.workspace // max(1, bytes_of_mix)
        whole = next((tile**2 for tile in TILES if tile**2 <= room), TILES[-1] ** 2)
        return max(whole, room // whole * whole)

    def kept(self) -> _Kept:
        """Room for what is kept. Its size is known without looking at the data: for all pairs, used or not."""
        n, (size, channels) = self.order.shape[0], self.weight.shape
        rows = n * (n - 1) // (2 if self.one_mix_per_pair or unordered(self.pairs) else 1)
        of_features, of_weight, _ = self.wanted
        fits = rows * size * self.features.element_size() <= self.workspace
        is_one_chunk = rows <= self._chunk_size()
        return _Kept(
            self.features.new_empty((rows if any(self.wanted) and fits else 0, size)),
            self.features.new_empty((rows if of_weight and is_one_chunk else 0, channels)),
            self.features.new_empty((rows if of_features and is_one_chunk else 0, channels), dtype=torch.int16),
        )

    def pool(self, mixes: Mixes, averages: Tensor | None, pooled: Tensor | None, argmax: Tensor | None) -> Tensor:
        """The mixes of a chunk [p, c], into a tensor if one is given, and where their maxima are."""
        if pooled is None:
            pooled = self.features.new_empty((len(mixes), self.features.shape[1]))
        fill(self.features, self.order, mixes.tensors, averages, pooled, argmax)
        return pooled

    def again(
        self,
        mixes: Mixes,
        averages: Tensor | None,
        projected: Tensor | None,
        pooled: Tensor | None,
        argmax: Tensor | None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What backward needs of a chunk: what was kept, or all of it made again."""
        of_features, of_weight, _ = self.wanted
        if projected is None or (of_weight and pooled is None) or (of_features and argmax is None):
            shape = len(mixes), self.features.shape[1]
            argmax = self.features.new_empty(shape, dtype=torch.int16) if of_features else None
            pooled = self.pool(mixes, averages, None, argmax)
            projected = self.project(pooled) if projected is None else projected
        return projected, pooled, argmax

    def project(self, pooled: Tensor, out: Tensor | None = None) -> Tensor:
        """The linear layer, [p, d]."""
        if self.bias is None:
            return torch.mm(pooled, self.weight.T, out=out)
        return torch.addmm(self.bias, pooled, self.weight.T, out=out)


class _Kept(NamedTuple):
    """What forward leaves to backward: of all mixes, or empty."""

    projected: Tensor  # [p, d]
    pooled: Tensor  # [p, c]
    argmax: Tensor  # [p, c]

    def of_chunk(self, at: slice) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        projected, pooled, argmax = (tensor[at] if len(tensor) else None for tensor in self)
        return projected, pooled, argmax


def _forward(*args: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    problem = _Problem(*args)
    features, anchors = problem.features, problem.anchors
    kept = problem.kept()
    averages = problem.averages
    sums = anchors.new_full((len(anchors), 2), -torch.inf if problem.exponential else 0.0)
    nonzero = torch.zeros_like(sums)
    with torch.autocast(features.device.type, enabled=False):
        for at, mixes, rest in problem.chunks():
            to_projected, to_pooled, to_argmax = kept.of_chunk(at)
            projected = problem.project(problem.pool(mixes, averages, to_pooled, to_argmax), to_projected)
            sums_of_chunk, nonzero_of_chunk = run_anchor_sums(projected, anchors, *rest)
            sums = torch.logaddexp(sums, sums_of_chunk) if problem.exponential else sums + sums_of_chunk
            nonzero += nonzero_of_chunk
    return sums, nonzero, *kept


def _gradients(grad_sums: Tensor, sums: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of features, weight, bias and anchors; that of the features is empty if it is not wanted."""
    kept, problem = _Kept(*rest[:3]), _Problem(*rest[3:])
    features, weight, anchors = problem.features, problem.weight, problem.anchors
    exact, averages = anchors.dtype, problem.averages
    features_wanted, weight_wanted, _ = problem.wanted
    grad_features = _zeros_like_maps(features, exact) if features_wanted else features.new_empty(0)
    grad_averages = torch.zeros_like(averages) if averages is not None and features_wanted else None
    grad_weight = torch.zeros_like(weight, dtype=exact)
    grad_bias = weight.new_zeros(len(weight), dtype=exact)
    grad_anchors = torch.zeros_like(anchors, memory_format=torch.contiguous_format)
    with torch.autocast(features.device.type, enabled=False):
        for at, mixes, relations in problem.chunks():
            projected, pooled, argmax = problem.again(mixes, averages, *kept.of_chunk(at))
            grad_projected = run_anchor_sums_backward(grad_sums, sums, projected, anchors, *relations, grad_anchors)
            grad_bias += grad_projected.sum(0, dtype=exact)
            if weight_wanted:
                grad_weight += grad_projected.T @ pooled
            if features_wanted:
                grad_pooled = torch.mm(grad_projected, weight, out=None if len(kept.pooled) else pooled)
                run_mix_pool_backward(grad_pooled, argmax, problem.order, *mixes.tensors, grad_features, grad_averages)
        if grad_averages is not None:
            height, width = features.shape[2:]
            grad_features.add_(grad_averages[:, :, None, None], alpha=1 / (height * width))
    return grad_features.to(features.dtype), grad_weight.to(weight.dtype), grad_bias.to(weight.dtype), grad_anchors


def _zeros_like_maps(features: Tensor, dtype: torch.dtype) -> Tensor:
    """Zeros laid out as the features, positions evenly spaced."""
    like = features if strides(features) else features.contiguous()
    return torch.zeros_like(like, dtype=dtype)


_run = implement("feature_sums", _forward)
_run_backward = implement("feature_sums_backward", _gradients)


@torch.library.register_fake("metrix_ext::feature_sums", lib=LIBRARY)
def _forward_fake(*args: Any) -> tuple[Tensor, ...]:
    problem = _Problem(*args)
    m = problem.anchors.shape[0]
    sums, nonzero = (problem.anchors.new_empty((m, 2)) for _ in range(2))
    return sums, nonzero, *problem.kept()


@torch.library.register_fake("metrix_ext::feature_sums_backward", lib=LIBRARY)
def _backward_fake(
    grad_sums: Tensor, sums: Tensor, projected: Tensor, pooled: Tensor, argmax: Tensor, *args: Any
) -> tuple[Tensor, ...]:
    problem = _Problem(*args)
    features, weight = problem.features, problem.weight
    grad_features = _zeros_like_maps(features, features.dtype) if problem.wanted[0] else features.new_empty(0)
    return (
        grad_features,
        torch.empty_like(weight, memory_format=torch.contiguous_format),
        weight.new_empty(weight.shape[0]),
        torch.empty_like(problem.anchors, memory_format=torch.contiguous_format),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    tensors, ctx.options = inputs[:_TENSORS], inputs[_TENSORS:]
    sums, _nonzero, *kept = output
    ctx.save_for_backward(sums, *kept, *tensors)


def _backward(ctx: Any, grad_sums: Tensor, *_others: Any) -> tuple[Tensor | None, ...]:
    gradients = _run_backward(grad_sums, *ctx.saved_tensors, *ctx.options)
    wanted = ctx.needs_input_grad[: len(gradients)]
    none = [None] * (len(_Problem._fields) - len(gradients))
    return (*(g if is_wanted else None for g, is_wanted in zip(gradients, wanted, strict=True)), *none)


feature_sums = register_autograd("feature_sums", _run, _setup_context, _backward)
