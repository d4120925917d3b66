"""anchor_sums on a device: the problems of the CPU, half types, and both ops over mixes in graphs and on streams."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metrix_ext.ops.anchor_sums import anchor_sums
from metrix_ext.terms.mixes import Mixes
from metrix_ext.terms.pair_sets import PAIR_SETS
from tests.gpu.checks import DEVICE, check, check_replay, check_stream, every_problem, on_cuda
from tests.gpu.test_mix_pool import TYPES, pool_step
from tests.support.mixes_problems import CLASS_SIZES, feature_maps, sums_problem
from tests.support.op_checks import (
    Arguments,
    Budget,
    check_native_half,
    check_same,
    given_as,
    in_half,
    results,
    upstream,
)
from tests.support.ops import ANCHOR_SUMS, FEATURE_SUMS
from tests.support.ops.anchor_sums import sums_groups

pytestmark = on_cuda

SUMS = replace(ANCHOR_SUMS, problems=sums_groups(12), budget=Budget(1e-11, 4e-5))


@every_problem(SUMS)
def test_values_and_gradients(make: Callable[[], Iterable[Arguments]]) -> None:
    for arguments in make():
        check(SUMS, arguments)


@pytest.mark.parametrize("pairs", PAIR_SETS)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("size", [7, 64, 512, 1028])  # of bfloat16, two go to tensor cores
def test_several_blocks(pairs: str, dtype: torch.dtype, size: int) -> None:
    for who in ("examples", "mask"):
        arguments = sums_problem(pairs, "exp", (5,) * 16 + (1, 2, 30), who, dim=size)
        if dtype.itemsize >= 4:
            check(SUMS, arguments, [dtype])
        else:
            found = check_native_half(SUMS, arguments, dtype, 4e-3, DEVICE)
            again = results(SUMS, anchor_sums, in_half(SUMS, arguments, dtype, DEVICE))
            check_same(again, found, f"{dtype}, the second time")


@every_problem(FEATURE_SUMS)
def test_values_and_gradients_of_feature_sums(make: Callable[[], Iterable[Arguments]]) -> None:
    for arguments in make():
        check(FEATURE_SUMS, arguments, budget=Budget(1e-10, 1e-4))


@functools.cache
def listed() -> tuple[Tensor, Mixes, Tensor, Arguments]:
    """Order, mixes, anchors, and what else anchor_sums takes, of 30 examples on the device."""
    problem = sums_problem("pos-neg", "exp", CLASS_SIZES["tiles"], dim=64)
    given = {name: given_as(value, torch.float32, DEVICE) for name, value in problem.items()}
    rest = {name: given[name] for name in ("relations", "rho", "pairs", "both_orders", "normalize")}
    return torch.arange(30, device=DEVICE), given["mixes"], given["anchors"], rest


def feature_inputs(seed: int) -> tuple[Tensor, Tensor]:
    """Features in bfloat16, channels last, and their averages."""
    features = feature_maps(30, 64, 7, 7, "channels_last", seed).to(DEVICE, torch.bfloat16)
    features = features.contiguous(memory_format=torch.channels_last)
    return features, features.float().mean((2, 3))


def feature_step(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Both ops, forward and backward; a graph can hold this."""
    features, averages = inputs
    order, mixes, anchors, rest = listed()
    pooled, *gradients = pool_step(features, order, mixes, averages)
    mixed, anchors = pooled.detach().requires_grad_(), anchors.detach().requires_grad_()
    sums, _ = anchor_sums(mixed, anchors, mixes=mixes, **rest)
    return pooled, *gradients, sums.detach(), *torch.autograd.grad(sums, (mixed, anchors), upstream(sums))


def test_mixes_in_a_cuda_graph() -> None:
    listed()
    check_replay(feature_inputs, feature_step)


def test_mixes_on_the_current_stream() -> None:
    inputs = feature_inputs(0)
    check_stream(inputs[0], lambda: feature_step(inputs))
