"""Every loss with every set of pairs, lambda and renormalising, against the loop oracle."""

from __future__ import annotations

import itertools
import zlib

import pytest
from torch import Tensor

from tests.mixing.against_loops import expected, lambda_shape, mixed_and_gradients, random_lambda
from tests.support import loop_oracle
from tests.support.compare import assert_close
from tests.support.loop_oracle import PAIR_SETS
from tests.support.loss_cases import CASES, batch
from tests.support.loss_tests import Build


def seed_of(*words: object) -> int:
    """A seed that differs from test to test and stays the same from run to run."""
    return zlib.crc32(repr(words).encode())


BOTH_LAYOUTS = ("ms", "contrastive", "lifted", "nca", "pa", "proxynca++")


def grid() -> list[tuple[str, str, str, bool, str]]:
    """Loss x pair set x lambda x renormalising x layout."""
    cases = []
    kinds = ("float", "tensor", "pair")
    for name, pairs, lam, renormalize in itertools.product(CASES, PAIR_SETS, kinds, (False, True)):
        rows, columns = lambda_shape(CASES[name], pairs, -1)
        if lam == "pair" and rows != columns:
            continue  # a proxy and an embedding: see test_lambdas.py
        layouts = ("ragged", "pairs") if name in BOTH_LAYOUTS else ("ragged",)
        cases += [(name, pairs, lam, renormalize, layout) for layout in layouts]
    return cases


GRID = grid()


def test_is_large_enough() -> None:
    assert len(GRID) >= 275


@pytest.mark.parametrize(("name", "pairs", "lam", "renormalize", "layout"), GRID)
def test_values_and_gradients(build: Build, name: str, pairs: str, lam: str, renormalize: bool, layout: str) -> None:
    case = CASES[name]
    seed = seed_of(name, pairs, lam, layout)
    loss = build(case, seed)
    x, labels = batch(layout, seed)
    shape = lambda_shape(case, pairs, len(labels))
    given: object
    taken: float | Tensor
    if lam == "float":
        given = taken = 0.37
    elif lam == "tensor":
        given = taken = random_lambda(shape, seed)
    else:
        given, taken = None, loop_oracle.pair_lambda(seed, range(shape[0]), range(shape[1]), 2.0)
    got = mixed_and_gradients(loss, x, labels, pairs, given, seed, renormalize=renormalize)
    assert_close(got, expected(case, loss, x, labels, pairs, taken, renormalize=renormalize), rtol=1e-8)
