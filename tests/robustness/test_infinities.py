"""Infinities and NaN, on every backend: the rule of docs/numbers.md.

An anchor with a term whose similarity is not finite, or whose mix has no finite norm, has NaN for both of its sums,
whatever the label of that term. What is in no term of an anchor does not matter to it. A loss that is not finite is
NaN, and so are the gradients of what its terms are made of. The plain formula is in infinities.py; on Triton the same
checks run from triton_cases.py.
"""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import metrix_ext as mx
from metrix_ext.mixing.factorised import factorised_sums
from metrix_ext.ops.mean_loss import mean_loss
from metrix_ext.terms.formula import Formula, Rho, Sigma
from metrix_ext.terms.relations import Relations
from tests.emulation.device import emulated
from tests.support.problems import RHO as RHO_OF

from .infinities import BAD, NORMS, PLACES, RHO, SETS, check_a_mix, check_place
from .support import CLASSES, LOSSES, make_batch, make_loss

every_bad = pytest.mark.parametrize("bad", BAD)
every_set = pytest.mark.parametrize("pairs", SETS)
mixed_set = pytest.mark.parametrize("pairs", SETS[1:])
every_loss = pytest.mark.parametrize("name", LOSSES)


# ---- the sums ---------------------------------------------------------------------------------------------


@every_set
@pytest.mark.parametrize("place", PLACES)
def test_a_similarity(backend: str, pairs: str, place: str) -> None:
    for rho, bad, masked in itertools.product(RHO, BAD, (False, True)):
        check_place(pairs, rho, place, bad, masked)


@mixed_set
@pytest.mark.parametrize("place", NORMS)
def test_a_norm(backend: str, pairs: str, place: str) -> None:
    for rho, bad, masked in itertools.product(RHO, BAD, (False, True)):
        check_place(pairs, rho, place, bad, masked)


@emulated.tiny_blocks
@every_set
def test_on_the_emulated_device(device: emulated.Device, pairs: str) -> None:
    places = [*PLACES, *(NORMS if pairs != "clean" else ())]
    for rho, place, masked in itertools.product(RHO, places, (False, True)):
        check_place(pairs, rho, place, "nan" if masked else "-inf", masked)
        check_place(pairs, rho, place, "+inf", masked, torch.float32)


@mixed_set
@pytest.mark.parametrize("rho", RHO)
def test_a_mixed_embedding(backend: str, pairs: str, rho: str) -> None:
    for bad, normalize in itertools.product(BAD.values(), (False, True)):
        check_a_mix(pairs, rho, normalize, bad)
    check_a_mix(pairs, rho, True, 1e200, whole_row=True)  # finite, but its norm is not


@mixed_set
def test_a_mixed_embedding_on_the_emulated_device(device: emulated.Device, pairs: str) -> None:
    for rho, normalize in itertools.product(RHO, (False, True)):
        check_a_mix(pairs, rho, normalize, -math.inf)
    check_a_mix(pairs, "exp", True, 1e200, whole_row=True)


@every_bad
def test_factorised_sums(backend: str, bad: str) -> None:
    """NaN for who has a term with it, and nothing for an anchor without positives or without negatives."""
    labels = torch.tensor([0, 0, 1])
    relations = Relations.from_labels(labels, labels, torch.arange(3))
    similarity = torch.rand(3, 3, dtype=torch.float64)
    similarity[0, 2] = similarity[2, 0] = BAD[bad]
    sums, _ = factorised_sums(similarity.requires_grad_(), relations, RHO_OF["exp"], torch.tensor([0.3]).double())
    assert sums[0].isnan().all()
    assert sums[1].isfinite().all()
    assert (sums[2] == -math.inf).all()
    sums.backward(torch.ones_like(sums))
    assert similarity.grad[0, 1:].isnan().all()
    assert similarity.grad[1, 0].isfinite() and similarity.grad[1, 2].isfinite()


# ---- from the sums to the loss ----------------------------------------------------------------------------

FORMULAS = {
    "identity": Formula((Rho(-1.0, exponential=False), Rho(1.0, exponential=False)), (Sigma("identity"),) * 2),
    "log": Formula((Rho(-1.0), Rho(1.0)), (Sigma("log"),) * 2, tau="relu"),
    "log1p": Formula((Rho(-1.0), Rho(1.0)), (Sigma("log1p", 0.5), Sigma("log1p", 2.0))),
}


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("kind", FORMULAS)
def test_a_loss_that_is_not_finite_shows_in_its_gradient(backend: str, kind: str, value: float) -> None:
    check_loss_of_sums(kind, value)


def test_mean_loss_on_the_emulated_device(device: emulated.Device) -> None:
    for kind, value in itertools.product(FORMULAS, (math.nan, math.inf)):
        check_loss_of_sums(kind, value)


def check_loss_of_sums(kind: str, value: float) -> None:
    sums = torch.tensor([[1.0, 2.0], [value, 2.0], [0.5, 1.5]], dtype=torch.float64, requires_grad=True)
    mixed = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    loss = mean_loss(sums, FORMULAS[kind], mixed, 0.4)
    loss.backward()
    assert loss.isnan()
    assert torch.equal(sums.grad.isnan().all(1), torch.tensor([False, True, False]))
    assert sums.grad[[0, 2]].isfinite().all()
    assert mixed.grad.isfinite().all()


# ---- the losses -------------------------------------------------------------------------------------------


def loss_and_batch(name: str, normalize: bool, bad: str) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    options = {"variant": "paper"} if name == "ProxyAnchorLoss" else {}
    x, labels = make_batch()
    x[4, 2] = BAD[bad]
    return make_loss(name, normalize=normalize, **options), x.requires_grad_(), labels


@every_bad
@pytest.mark.parametrize("normalize", [False, True], ids=["as they are", "normalised"])
@every_loss
def test_a_bad_entry_of_the_embeddings(backend: str, name: str, normalize: bool, bad: str) -> None:
    loss, x, labels = loss_and_batch(name, normalize, bad)
    value = loss(x, labels)
    value.backward()
    assert value.isnan()
    assert x.grad[4].isnan().any()


@every_bad
@mixed_set
@every_loss
def test_a_bad_entry_of_embeddings_that_are_mixed(backend: str, name: str, pairs: str, bad: str) -> None:
    """Also where lambda is 0 or 1: 0 times infinity is NaN. A loss with one proxy a class has no two positives."""
    for lam in (0.0, 0.3, 1.0):
        loss, x, labels = loss_and_batch(name, False, bad)
        value = mx.Metrix(loss, mix="embed").mixed_loss(x, labels, pairs=pairs, lam=lam)
        value.backward()
        if pairs == "pos-pos" and loss.candidates == "proxies":
            assert value == 0 and not x.grad.any()
        else:
            assert value.isnan() and x.grad[4].isnan().any()


@every_loss
def test_similarities_that_overflow(backend: str, name: str) -> None:
    """Finite embeddings, of which an inner product is beyond float32: NaN in the loss and in a gradient."""
    loss = make_loss(name, torch.float32, normalize=False)
    x, labels = make_batch(dtype=torch.float32)
    x = (x * 1e20).requires_grad_()
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.mul_(1e20)
    value = loss(x, labels)
    value.backward()
    assert value.isnan()
    assert x.grad.isnan().any()


@mixed_set
def test_norms_of_mixes_that_overflow(backend: str, pairs: str) -> None:
    """Similarities to proxies are finite, the squared norms of the mixes are not: NaN, and not similarity 0."""
    loss = make_loss("ProxyAnchorLoss", torch.float32, normalize=False)
    x, labels = make_batch(dtype=torch.float32)
    criterion = mx.Metrix(loss, mix="embed", renormalize=True)
    assert criterion.mixed_loss(x, labels, pairs=pairs, lam=0.3).isfinite()
    huge = (x * 1e20).requires_grad_()
    assert loss(huge, labels).isfinite()
    value = criterion.mixed_loss(huge, labels, pairs=pairs, lam=0.3)
    value.backward()
    assert value.isnan()
    assert huge.grad.isnan().any()


@every_bad
def test_what_is_in_no_term_does_not_matter(backend: str, bad: str) -> None:
    """Of references of one class, mixed by twos, an anchor of another class has none."""
    x, references = torch.randn(2, 3).double(), torch.randn(3, 3).double()
    labels, reference_labels = torch.arange(2), torch.zeros(3, dtype=torch.int64)
    loss = make_loss("MultiSimilarityLoss", normalize=False)
    pairs = torch.tensor([0]), torch.tensor([1]), torch.tensor([1]), torch.tensor([0])
    expected = loss(x, labels, pairs, references, reference_labels)
    references[2] = BAD[bad]
    assert torch.equal(loss(x, labels, pairs, references, reference_labels), expected)
    assert loss(x, labels, None, references, reference_labels).isnan()


def test_number_of_classes_of_the_batch() -> None:
    """The cases above rely on it: every example has positives and negatives."""
    _, labels = make_batch()
    assert (labels.bincount() > 2).all() and len(labels.bincount()) == CLASSES


# ---- Triton -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_on_triton(speed: str) -> None:
    """In its interpreter, which has to be chosen before Triton is imported: another process."""
    pytest.importorskip("triton")
    environment = dict(os.environ) if torch.cuda.is_available() else {**os.environ, "TRITON_INTERPRET": "1"}
    cases = Path(__file__).with_name("triton_cases.py")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "-p", "no:cacheprovider", "-m", speed, str(cases)]
    done = subprocess.run(command, env=environment, cwd=cases.parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
