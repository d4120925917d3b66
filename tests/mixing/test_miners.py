"""Pairs of a miner: they restrict what is mixed."""

from __future__ import annotations

import pytest

from tests.mixing.against_loops import every_set, expected, metrix, random_lambda
from tests.support.compare import assert_close
from tests.support.loss_cases import CASES, batch, leaf, some_triplets
from tests.support.loss_tests import PAIR_CASES, Build, gradients


@pytest.mark.parametrize("name", PAIR_CASES)
@every_set
def test_mined_pairs(backend: str, build: Build, name: str, pairs: str) -> None:
    """The pairs of a miner restrict what is mixed as they restrict the clean loss."""
    case, loss = CASES[name], build(CASES[name])
    x, labels = batch("ragged")
    lam = random_lambda((len(labels), len(labels)))
    mined = some_triplets(labels)
    for renormalize in (False, True):
        inp = leaf(x)
        value = metrix(loss, renormalize=renormalize).mixed_loss(inp, labels, pairs=pairs, lam=lam, indices_tuple=mined)
        want = expected(case, loss, x, labels, pairs, lam, renormalize=renormalize, indices_tuple=mined)
        assert_close(gradients(value, [inp]), want, rtol=1e-8)
