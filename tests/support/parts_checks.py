"""What is checked of products in three parts of bfloat16, on emulated tensor cores and on those of a GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import metrix_ext as mx
from metrix_ext.ops import float_parts
from metrix_ext.ops.pair_sums import pair_sums
from metrix_ext.terms.formula import mean
from metrix_ext.terms.relations import Relations
from tests.support.compare import assert_near, relative_error

CLASS = 8
Product = Callable[[Tensor, Tensor], Tensor]  # in plain float32, what parts are compared with


def embeddings(size: int, spread: float, n: int = 256) -> Tensor:
    """Classes of 8, which have something in common with each other: similarities of 0.4 to 0.9."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(n // CLASS, size, generator=generator, dtype=torch.float64)
    centres += 0.9 * torch.randn(1, size, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, size, generator=generator, dtype=torch.float64)
    return F.normalize(centres.repeat_interleave(CLASS, 0) + spread * noise).float()


def loss_and_gradient(similarity: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Multi-similarity, gamma = 75, in float64, from given similarities; the gradient of the embeddings."""
    similarity = similarity.double().requires_grad_()
    index = torch.arange(len(x), device=x.device)
    relations = Relations.from_labels(index // CLASS, index // CLASS, index)
    formula = mx.losses.MultiSimilarityLoss().formula
    with mx.use_backend("reference"):
        loss = mean(formula.per_anchor(pair_sums(similarity, relations, formula.rho)[0]))
    (grad,) = torch.autograd.grad(loss, similarity)
    return loss.detach(), (grad + grad.T) @ x.double()


def root_mean_square(errors: Tensor) -> Tensor:
    return errors.square().mean().sqrt()


def largest(errors: Tensor) -> Tensor:
    return errors.abs().max()


def check_similarities(x: Tensor, plain: Product, slack: float = 1.0) -> None:
    """In the mean over pairs they are as exact as in plain float32; and no pair is worse than the worst there.

    ``slack`` is for products that are added in an order of which nothing is known.
    """
    exact = x.double() @ x.double().T
    errors, plain_errors = (products - exact for products in (float_parts.gram(x), plain(x, x.T)))
    for measure in (root_mean_square, largest):
        found, allowed = measure(errors), 1.2 * slack * measure(plain_errors)
        assert found < allowed, f"{measure.__name__}: {found:.3g}, allowed {allowed:.3g}"


def check_loss_and_gradient(x: Tensor, plain: Product, slack: float = 1.0) -> None:
    """What tensor cores cut off has one sign, and adds up over pairs as roundings do not: 6e-6 of the loss."""
    loss, gradient = loss_and_gradient(x.double() @ x.double().T, x)
    found, its_gradient = loss_and_gradient(float_parts.gram(x), x)
    _, plain_gradient = loss_and_gradient(plain(x, x.T), x)
    assert_near(found, loss, 8e-6 * slack, "loss")
    assert_near(its_gradient, gradient, 4 * slack * relative_error(plain_gradient, gradient), "gradient")
    assert_near(its_gradient, gradient, 1e-5 * slack, "gradient")


def check_symmetric_product(n: int, size: int, one_sign: bool, device: str) -> None:
    """Of weights of one sign, too, whose long sums grow: the pieces keep what is cut off small."""
    generator = torch.Generator().manual_seed(0)
    weights, x = (torch.randn(n, columns, generator=generator) for columns in (n, size))
    weights, x = ((t.abs() if one_sign else t).to(device) for t in (weights, x))
    exact = (weights + weights.T).double() @ x.double()
    assert_near(float_parts.symmetric_product(weights, x), exact, 1e-6, "weights and their transpose, times x")
