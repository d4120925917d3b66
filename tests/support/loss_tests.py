"""What the tests of clean and of mixed losses share: parameters, random batches, comparisons of several runs."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor, nn

from tests.support.compare import relative_error
from tests.support.loss_cases import CASES, DIM, NUM_CLASSES, Case, Tensors, batch

Build = Callable[..., nn.Module]  # the fixture of that name

PAIR_CASES = {name: case for name, case in CASES.items() if not case.has_proxies}
PROXY_CASES = {name: case for name, case in CASES.items() if case.has_proxies}
default_case = pytest.mark.parametrize("name", CASES)
pair_case = pytest.mark.parametrize("name", PAIR_CASES)
proxy_case = pytest.mark.parametrize("name", ["pa", "proxynca", "proxynca++"])
nothing_to_compare = pytest.mark.parametrize(
    ("name", "layout"), [(n, "none") for n in CASES] + [(n, "one") for n in PAIR_CASES]
)

# The backend fixture is entered once for all examples of a test, which is what is wanted.
QUIET = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


def with_loss(case: Case, **changes: object) -> Case:
    """The case with other parameters of its loss in the oracle, such as ``dtype`` or ``normalize``."""
    return case._replace(loss=replace(case.loss, **changes))  # type: ignore[arg-type]


def random_batch(n: int, dim: int = DIM, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Embeddings [n, dim] without clusters, float64, and labels within the classes that every loss can take."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, NUM_CLASSES, (n,), generator=generator)
    return torch.randn(n, dim, generator=generator, dtype=torch.float64), labels


def gradients(value: Tensor, inputs: list[Tensor]) -> Tensors:
    """The scalar and its gradients, zero where an input was not used."""
    return [value.detach(), *torch.autograd.grad(value, inputs, materialize_grads=True)]


def huge_similarities(case: Case, build: Build, dtype: torch.dtype) -> tuple[Case, nn.Module, Tensor, Tensor]:
    """Not normalised and of length 100, so that exponents reach a million: case, module, embeddings and labels."""
    x, labels = batch("ragged")
    loss = build(case, normalize=False, dtype=dtype)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.mul_(100)
    return with_loss(case, normalize=False), loss, (100 * x).to(dtype), labels


def assert_float32_like_literal(runs: Iterable[tuple[Tensors, Tensors, Tensors]], floor: float = 2e-6) -> None:
    """The worst error of all runs, tensor by tensor, is at most ``floor`` above that of the literal formula in float32.

    Args:
        runs: what was computed, what the literal formula gives in float32, and the truth in float64.
    """
    errors = []
    for got, literal, truth in runs:
        assert all(g.dtype == torch.float32 for g in got)
        errors.append(
            [(relative_error(g, t), relative_error(n, t)) for g, n, t in zip(got, literal, truth, strict=True)]
        )
    worst = [tuple(map(max, zip(*of_tensor, strict=True))) for of_tensor in zip(*errors, strict=True)]
    assert all(ours <= literal + floor for ours, literal in worst), worst


def assert_repeats(run: Callable[[], Tensors], times: int = 3) -> None:
    """Every further run gives the bits of the first."""
    first = run()
    for _ in range(times):
        for a, b in zip(first, run(), strict=True):
            assert torch.equal(a, b)
