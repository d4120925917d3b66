"""Random inputs of pair_sums, and checks that the tests of several backends share."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

import metrix_ext as mx
from metrix_ext import reference
from metrix_ext.ops.class_order import class_order
from metrix_ext.ops.pair_sums import pair_sums
from metrix_ext.terms.formula import Rho
from metrix_ext.terms.pair_sets import PAIR_SETS
from metrix_ext.terms.relations import Relations

RHO = {
    "exp": (Rho(-18.0, 18.0 * 0.77), Rho(75.0, -75.0 * 0.77)),
    "nca": (Rho(1.0), Rho(1.0)),
    "linear": (Rho(-1.0, exponential=False), Rho(1.0, -0.5, exponential=False, floor=0.0)),
}
# With margins that follow the label.
WITH_MARGINS = {
    "exp margins": (Rho(-18.0, 18.0 * 0.5, margin_range=0.3), Rho(75.0, -75.0 * 0.5, margin_range=0.3)),
    "linear margins": (Rho(-1.0, exponential=False), Rho(1.0, 0.2, exponential=False, floor=0.0, margin_range=0.6)),
    "two margins": (
        Rho(-1.0, 0.3, exponential=False, floor=0.0, margin_range=-0.4),
        Rho(2.0, -0.1, exponential=False, floor=0.0, margin_range=0.5),
    ),
}
# Ragged classes, singletons, one class only, no example, sizes around the padding of a row.
CLASS_SIZES = {
    "ragged": (5, 1, 3, 2, 1, 7),
    "singletons": (1,) * 6,
    "one-class": (6,),
    "one": (1,),
    "two": (1, 1),
    "empty": (),
    "wide": (9, 30, 2, 24),
}
# Windows of "ragged": at each end, of singletons, between classes, of nobody.
WINDOWS = [(0, 6), (5, 9), (6, 11), (12, 19), (11, 12), (9, 9)]
CASES = [
    (pairs, rho, layout, masked)
    for pairs in ("clean", *PAIR_SETS)
    for rho in RHO
    for layout in CLASS_SIZES
    for masked in (False, True)
    if layout != "wide" or rho == "exp"
]


def rho_of(name: str) -> tuple[Rho, Rho]:
    return (RHO | WITH_MARGINS)[name]


@dataclass
class Problem:
    """Arguments of pair_sums, floating ones in float64."""

    floats: dict[str, Tensor]
    relations: Relations
    rho: tuple[Rho, Rho]
    pairs: str
    first_row: int = 0

    def arguments(self, dtype: torch.dtype = torch.float64, grad: bool = False) -> dict[str, object]:
        floats = {name: t.to(dtype) for name, t in self.floats.items()}
        if grad:
            floats = {n: t if n == "lam" else t.clone().requires_grad_() for n, t in floats.items()}
        given = {"relations": self.relations, "rho": self.rho, "pairs": self.pairs, "first_row": self.first_row}
        return {**floats, **given}

    def in_order(self) -> "Problem":
        """The same, known to have the examples as anchors."""
        return replace(self, relations=replace(self.relations, anchors_in_order=True))

    def window(self, begin: int, end: int) -> "Problem":
        """The anchors whose positives are among these examples, with these rows of lam and gram."""
        first, last = self.relations.positives.unbind(1)
        kept = ((begin <= first) & (last <= end)) | (first == last)
        floats = {**self.floats, "similarity": self.floats["similarity"][kept]}
        for name in ("lam", "gram"):
            if name in floats and floats[name].dim() == 2:
                floats[name] = floats[name][begin:end]
        if "gram" in floats:
            floats["sqnorm"] = self.floats["gram"].diagonal().clone()
        return replace(self, floats=floats, relations=self.relations.of_rows(kept), first_row=begin)


def make_problem(
    pairs: str,
    rho: str = "exp",
    layout: str | tuple[int, ...] = "ragged",
    masked: bool = False,
    renormalize: bool = True,
    scalar_lambda: bool = False,
    proxies: bool | int = False,
    seed: int = 0,
    dim: int = 6,
    zeros: int = 0,
) -> Problem:
    """Anchors are the examples, or with ``proxies`` others, some without any positive.

    Args:
        layout: a name of CLASS_SIZES, or the sizes themselves.
        proxies: a number: of so many of the classes in order.
        zeros: so many of the examples are zero vectors.
    """
    g = torch.Generator().manual_seed(seed)
    sizes = CLASS_SIZES[layout] if isinstance(layout, str) else layout
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes, dtype=torch.int64))
    n = len(labels)
    x = F.normalize(torch.randn(n, dim, generator=g, dtype=torch.float64))
    x[:zeros] = 0
    if proxies:
        anchor_labels = torch.randperm(len(sizes) + 2, generator=g) if proxies is True else torch.arange(proxies)
        anchors = F.normalize(torch.randn(len(anchor_labels), dim, generator=g, dtype=torch.float64))
        self_index = torch.full_like(anchor_labels, -1)
    else:
        anchors, anchor_labels, self_index = x, labels, torch.arange(n)
    relations = Relations.from_labels(anchor_labels, labels, self_index)
    if masked:
        kept = torch.rand(len(anchors), n, generator=g) < 0.6
        relations = relations.keep_pairs(relations.dense(n) * kept)
    floats = {"similarity": anchors @ x.T}
    if pairs != "clean":
        source = x * (0.5 + torch.rand(n, 1, generator=g, dtype=torch.float64)) if renormalize else x
        own = source if not proxies else anchors
        rows = len(anchors) if pairs.startswith("anc-") else n
        floats["lam"] = torch.rand((1,) if scalar_lambda else (rows, n), generator=g, dtype=torch.float64)
        floats["similarity"] = anchors @ source.T
        if renormalize:
            floats["gram"] = (own if pairs.startswith("anc-") else source) @ source.T
        if renormalize and pairs.startswith("anc-"):
            floats["sqnorm"] = (source * source).sum(1)
        if pairs.startswith("anc-"):
            floats["self_similarity"] = (anchors * own).sum(1)
            if renormalize:
                floats["self_sqnorm"] = (own * own).sum(1)
    return Problem(floats, relations, rho_of(rho), pairs)


def check_class_order(labels: Tensor) -> None:
    """On the device of the labels, against PyTorch's sort."""
    order, relations = class_order(labels)
    with mx.use_backend("reference"):
        expected_order, expected = class_order(labels)
    assert torch.equal(order, expected_order)
    assert torch.equal(relations.positives, expected.positives)
    assert torch.equal(relations.self_index, expected.self_index)
    assert relations.anchors_in_order


def on(device: str | torch.device, arguments: dict[str, object]) -> dict[str, object]:
    """The arguments of pair_sums on a device, as leaves."""
    moved = {}
    for name, value in arguments.items():
        if isinstance(value, Tensor):
            moved[name] = value.detach().to(device).requires_grad_(value.requires_grad)
        elif name == "relations":
            mask = None if value.mask is None else value.mask.to(device)
            ranges = value.positives.to(device), value.self_index.to(device)
            moved[name] = type(value)(*ranges, mask, value.anchors_in_order)
        else:
            moved[name] = value
    return moved


def check_with_clean(problem: Problem, dtype: torch.dtype = torch.float64, device: str | torch.device = "cpu") -> None:
    """pair_sums and clean sums of another rho: the bits of two calls, and the gradient of either sums or of both."""
    other = RHO["linear"] if problem.rho[0].exponential else RHO["nca"]
    for used, clean_rho in (((0,), problem.rho), ((2,), other), ((0, 2), problem.rho), ((0, 2), other)):
        together, apart = (on(device, problem.arguments(dtype, grad=True)) for _ in range(2))
        sums = pair_sums(**together, clean_rho=clean_rho)
        separate = [*pair_sums(**apart), *pair_sums(apart["similarity"], apart["relations"], clean_rho)]
        for given, right in zip(sums, separate, strict=True):
            assert given.equal(right)
        for made in (sums, separate):
            finite = [torch.where(made[k].detach().isfinite(), made[k], torch.zeros_like(made[k])) for k in used]
            sum((k + 1) * s.square().sum() for k, s in enumerate(finite)).backward()
        for name, leaf in apart.items():
            if isinstance(leaf, Tensor) and leaf.grad is not None:
                tolerance = 1e-12 if dtype == torch.float64 else 1e-5
                torch.testing.assert_close(
                    together[name].grad, leaf.grad, rtol=tolerance, atol=tolerance * float(leaf.grad.norm())
                )


def check_diagonals(
    pairs: str, rho: str, given: tuple[str, ...], dtype: torch.dtype = torch.float64, device: str | torch.device = "cpu"
) -> None:
    """What is not given is on the diagonals of similarity and gram, and its gradient is added to theirs.

    Anchors are as many as the examples, each its own, or somebody else than any example: then elements of the diagonals
    are similarities of terms, too.

    Args:
        given: names of arguments that are passed all the same.
    """
    whole = make_problem(pairs, rho)
    on_similarity = ("self_similarity",) if pairs.startswith("anc-") else ()
    on_gram = ("sqnorm", "self_sqnorm") if pairs.startswith("anc-") else ("sqnorm",)
    own = torch.arange(len(whole.relations.positives))
    for self_index in (own, torch.full_like(own, -1)):
        relations = replace(whole.relations, self_index=self_index)
        floats = {name: whole.floats[name] for name in ("similarity", "lam", "gram")}
        gram = floats["gram"].diagonal()
        extra = dict.fromkeys(given, gram * 1.1)
        of_diagonals = {name: floats["similarity"].diagonal().clone() for name in on_similarity}
        of_diagonals |= {name: extra.get(name, gram).clone() for name in on_gram}
        short = on(device, replace(whole, floats=floats | extra, relations=relations).arguments(dtype, grad=True))
        full = replace(whole, floats=floats | of_diagonals, relations=relations).arguments(torch.float64, grad=True)
        sums, _ = pair_sums(**short)
        expected, _ = reference.pair_sums(**full)
        tolerance = 1e-10 if dtype == torch.float64 else 1e-4
        torch.testing.assert_close(sums.cpu().double(), expected, rtol=tolerance, atol=tolerance)
        for made in (sums, expected):
            made.masked_fill(made == -torch.inf, 0).square().sum().backward()
        for name in (*on_similarity, *(name for name in on_gram if name not in given)):
            full["similarity" if name in on_similarity else "gram"].grad.diagonal().add_(full[name].grad)
        for name in ("similarity", "gram", *given):
            right = full[name].grad
            torch.testing.assert_close(
                short[name].grad.cpu().double(), right, rtol=tolerance, atol=tolerance * float(right.norm())
            )


GIVEN = [(pairs, ()) for pairs in PAIR_SETS] + [("anc-neg", ("sqnorm",)), ("anc-pos", ("sqnorm",))]
