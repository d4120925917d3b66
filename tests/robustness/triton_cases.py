"""The checks of test_infinities.py on Triton; that file runs them in a process of their own."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from tests.triton_kernels.on_triton import poisoned_memory, triton_backend  # noqa: F401

from .infinities import NORMS, PLACES, RHO, SETS, check_a_mix, check_place

slow = pytest.mark.slow


@pytest.mark.parametrize("pairs", SETS)
@pytest.mark.parametrize("rho", ["exp", pytest.param("linear", marks=slow)])
def test_one_of_each(pairs: str, rho: str) -> None:
    check_place(pairs, rho, "a positive's similarity", "-inf", False)
    check_place(pairs, rho, "the anchor's own", "nan", False)
    if pairs in ("pos-pos", "neg-neg", "anc-pos"):
        check_place(pairs, rho, "the norm of the partner in a class of two", "+inf", False)


@slow
@pytest.mark.parametrize("pairs", SETS)
@pytest.mark.parametrize("place", [*PLACES, *NORMS])
def test_every_place(pairs: str, place: str) -> None:
    for rho, masked in itertools.product(RHO, (False, True)):
        if pairs != "clean" or place in PLACES:
            check_place(pairs, rho, place, "nan" if masked else "-inf", masked)
            check_place(pairs, rho, place, "+inf", masked, torch.float32)


@pytest.mark.parametrize("pairs", ["pos-neg", *(pytest.param(pairs, marks=slow) for pairs in SETS[2:])])
def test_a_mixed_embedding(pairs: str) -> None:
    check_a_mix(pairs, "exp", True, 1e200, whole_row=True)
    check_a_mix(pairs, "linear", False, -math.inf)
