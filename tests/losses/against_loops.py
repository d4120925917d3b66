"""The clean losses with their gradients, and what the loop oracle says of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.support import loop_oracle
from tests.support.compare import assert_close
from tests.support.loss_cases import CASES, OTHER_PARAMETERS, Case, Tensors, leaf
from tests.support.loss_tests import gradients

ALL_CASES = {**CASES, **OTHER_PARAMETERS}
every_case = pytest.mark.parametrize("name", ALL_CASES)


def value_and_gradients(loss: nn.Module, x: Tensor, labels: Tensor, **arguments: object) -> Tensors:
    x = leaf(x)
    value = loss(x, labels, **arguments)
    assert value.shape == ()
    return gradients(value, [x, *loss.parameters()])


def expected(case: Case, loss: nn.Module, x: Tensor, labels: Tensor, **arguments: object) -> Tensors:
    """The same by the loops, in the type of the case."""
    x = leaf(x.to(case.loss.dtype))
    proxies = [leaf(p.to(case.loss.dtype)) for p in loss.parameters()]
    value = loop_oracle.clean_loss(case.loss, x, labels, *proxies, **arguments)  # type: ignore[arg-type]
    return gradients(value, [x, *proxies])


def assert_like_loops(case: Case, loss: nn.Module, x: Tensor, labels: Tensor, **arguments: object) -> None:
    got, want = value_and_gradients(loss, x, labels, **arguments), expected(case, loss, x, labels, **arguments)
    assert_close(got, want, rtol=1e-10)


def some_pairs(anchors: Tensor, others: Tensor, same_batch: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every second positive and every third negative pair, and a few of them twice."""
    equal = anchors[:, None] == others[None, :]
    positive = equal & ~torch.eye(len(anchors), dtype=torch.bool) if same_batch else equal
    pos, neg = positive.nonzero()[::2], (~equal).nonzero()[::3]
    pos, neg = torch.cat([pos, pos[:2]]), torch.cat([neg, neg[:4]])
    return pos[:, 0], pos[:, 1], neg[:, 0], neg[:, 1]
