"""Sums over pairs from some rows of lambda and gram, as large batches take them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

import metrix_ext as mx
from metrix_ext.ops.pair_sums import pair_sums
from metrix_ext.terms.formula import flat
from tests.support.problems import WINDOWS, make_problem


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("pairs", ["pos-neg", "pos-pos"])
@pytest.mark.parametrize("rho", ["exp", "linear"])
def test_sums_of_a_window(window: tuple[int, int], pairs: str, rho: str) -> None:
    if reason := mx.backend.why_not("cpu"):
        pytest.skip(reason)
    for renormalize, scalar_lambda, proxies in itertools.product((False, True), repeat=3):
        whole = make_problem(pairs, rho, "ragged", False, renormalize, scalar_lambda, proxies)
        if scalar_lambda and not renormalize:
            continue  # nothing to have a window of
        results = {}
        for name, problem in (
            ("window", whole.window(*window)),
            ("reference", whole.window(*window)),
            ("whole", whole),
        ):
            arguments = problem.arguments(grad=True)
            with mx.use_backend("reference" if name == "reference" else "cpu"):
                sums, nonzero = pair_sums(**arguments)
            sums.masked_fill(sums == -math.inf, 0).sum().backward()
            gradients = {k: t.grad for k, t in arguments.items() if isinstance(t, Tensor) and t.requires_grad}
            results[name] = sums.detach(), gradients
            if rho == "linear":
                results[name] += (nonzero,)
        torch.testing.assert_close(results["window"], results["reference"], rtol=1e-11, atol=1e-11)
        begin, end = whole.relations.positives.unbind(1)
        kept = ((window[0] <= begin) & (end <= window[1])) | (begin == end)
        assert torch.equal(results["window"][0], results["whole"][0][kept])
        assert torch.equal(results["window"][1]["similarity"], results["whole"][1]["similarity"][kept])


@pytest.mark.parametrize("pairs", ["pos-neg", "pos-pos"])
def test_opcheck_of_a_window(pairs: str) -> None:
    arguments = make_problem(pairs).window(5, 9).arguments(grad=True)
    relations, rho = arguments["relations"], arguments["rho"]
    tensors = arguments["similarity"], relations.positives, relations.self_index, None, False
    optional = *(arguments[name] for name in ("lam", "gram", "sqnorm")), None, None
    numbers, clean_numbers = flat(rho, pairs), flat(rho, "clean")
    torch.library.opcheck(torch.ops.metrix_ext.pair_sums, (*tensors, pairs, *numbers, *optional, 5, *clean_numbers))


def test_bad_windows_are_named(backend: str) -> None:
    arguments = make_problem("pos-neg").window(5, 9).arguments()
    masked = make_problem("pos-neg", masked=True).window(5, 9).arguments()
    n = arguments["similarity"].shape[1]
    for given, change, name in (
        (arguments, {"first_row": -1}, "first_row: got -1, expected 0 to 15"),
        (arguments, {"first_row": 16}, "first_row: got 16, expected 0 to 15"),
        (arguments, {"first_row": 4}, r"relations.positives: got \[6, 9\], expected columns from 4 to 8"),
        (arguments, {"sqnorm": None}, "sqnorm: missing"),
        (arguments, {"lam": torch.rand(n, n)}, "lam"),
        (arguments, {"gram": torch.rand(n, n)}, "lam"),
        (arguments, {"pairs": "neg-neg"}, "first_row"),
        (masked, {}, "a mask"),
        (make_problem("anc-neg").arguments(), {"first_row": 2}, "first_row"),
        (make_problem("clean").arguments(), {"first_row": 2}, "first_row"),
        (make_problem("pos-neg", renormalize=False, scalar_lambda=True).arguments(), {"first_row": 2}, "first_row"),
    ):
        with pytest.raises(ValueError, match=name):
            pair_sums(**{**given, **change})
