"""What the robustness tests share: processes of their own for what may crash, what a clean error is, small batches."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import metrix_ext as mx

# A server that has imported everything and run nothing forks a fresh process in 20 ms; importing torch takes seconds.
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_PROCESSES: Any = multiprocessing.get_context(_METHOD)
_ROOT = str(Path(__file__).parents[2])

EXAMPLES, DIM, CLASSES, CHANNELS = 12, 6, 4, 5

# Constructor arguments of all losses; those with proxies need sizes.
WITH_PROXIES = {"num_classes": CLASSES, "embedding_size": DIM}
LOSSES: dict[str, dict[str, Any]] = {
    "ContrastiveLoss": {},
    "LiftedStructureLoss": {},
    "BinomialDevianceLoss": {},
    "MultiSimilarityLoss": {},
    "NCALoss": {},
    "ProxyAnchorLoss": WITH_PROXIES,
    "ProxyNCALoss": WITH_PROXIES,
    "ProxyNCAPlusPlusLoss": WITH_PROXIES,
}


@dataclass(frozen=True)
class Outcome:
    """How a call ended: with a value, with an error (the names of its classes, its message), or with the process."""

    value: Any = None
    error: tuple[tuple[str, ...], str] | None = None
    died: str | None = None

    def __str__(self) -> str:
        if self.died:
            return f"the process {self.died}"
        return f"{self.error[0][0]}: {self.error[1]}" if self.error else f"gave {self.value}"


def attempt(call: Callable[[], Any]) -> Outcome:
    """Calls it here."""
    try:
        return Outcome(call())
    except Exception as error:
        return Outcome(error=(tuple(cls.__name__ for cls in type(error).__mro__), str(error)))


def isolated(function: Callable[..., Any], *args: Any, seconds: float = 20.0) -> Outcome:
    """function(*args) in a process of its own; it is found by name and gives plain Python values."""
    (outcome,) = isolated_each(function, [args], seconds)
    return outcome


def isolated_each(function: Callable[..., Any], cases: Sequence[tuple[Any, ...]], seconds: float) -> list[Outcome]:
    """function(*case) for every case, in one process until a case ends it; the next goes on after that case.

    Args:
        seconds: for a case; more is a hang.
    """
    outcomes: list[Outcome] = []
    while len(outcomes) < len(cases):
        outcomes += _until_death(function, cases[len(outcomes) :], seconds)
    return outcomes


def _until_death(function: Callable[..., Any], cases: Sequence[tuple[Any, ...]], seconds: float) -> list[Outcome]:
    _PROCESSES.set_forkserver_preload(["pytest", "torch._dynamo", "tests.robustness.calls"])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))  # for the server
    here, there = _PROCESSES.Pipe(duplex=False)
    process = _PROCESSES.Process(target=_answer, args=(there, function, list(cases)))
    process.start()
    there.close()
    outcomes: list[Outcome] = []
    try:
        assert here.poll(300) and here.recv() == "ready"  # the first one waits for the server, which imports torch
        while len(outcomes) < len(cases) and (not outcomes or outcomes[-1].died is None):
            outcomes.append(_next(process, here, seconds))
    finally:
        process.kill()
        process.join()
    return outcomes


def _next(process: Any, answers: Connection, seconds: float) -> Outcome:
    if not answers.poll(seconds):
        return Outcome(died=f"hangs for more than {seconds:.0f} s")
    try:
        return answers.recv()
    except EOFError:
        process.join()
        code = process.exitcode
        return Outcome(died=f"ends with {signal.Signals(-code).name if code < 0 else f'status {code}'}")


def _answer(answers: Connection, function: Callable[..., Any], cases: list[tuple[Any, ...]]) -> None:
    answers.send("ready")
    for case in cases:
        answers.send(attempt(lambda case=case: function(*case)))


def refused(outcome: Outcome, *words: str, kinds: tuple[str, ...] = ("ValueError", "TypeError")) -> None:
    """Checks that a call ended with a clean error: of such a class, in one line that has all the words.

    An error about an argument also says what was expected.
    """
    assert outcome.error is not None, f"expected an error with {words}, but {outcome}"
    classes, message = outcome.error
    assert any(kind in classes for kind in kinds), f"expected one of {kinds} with {words}, but {outcome}"
    assert "\n" not in message, f"expected one line, but {outcome}"
    missing = [word for word in words if word not in message]
    assert not missing, f"the message lacks {missing}: {outcome}"
    says_what_is_wanted = any(word in message for word in ("expected", "needs", "missing", "without"))
    assert says_what_is_wanted or "RuntimeError" in kinds, f"the message does not say what was expected: {outcome}"


def gave(outcome: Outcome, expected: Any, tolerance: float = 1e-9) -> None:
    """Checks that a call ended with these numbers."""
    assert outcome.error is None and outcome.died is None, f"expected {expected}, but {outcome}"
    right, made = (torch.as_tensor(x, dtype=torch.float64) for x in (expected, outcome.value))
    torch.testing.assert_close(made, right, rtol=tolerance, atol=tolerance, equal_nan=True)


def make_loss(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> nn.Module:
    """A loss of metrix_ext.losses; its proxies are always the same."""
    loss = getattr(mx.losses, name)(**{**LOSSES[name], **options}).to(dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return loss


def make_batch(n: int = EXAMPLES, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Embeddings [n, DIM] and labels [n], a third of the classes' examples next to each other."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, DIM, generator=generator, dtype=torch.float64).to(dtype), torch.arange(n) % CLASSES


def make_maps(
    n: int = EXAMPLES, size: tuple[int, int] = (3, 3), dtype: torch.dtype = torch.float64, seed: int = 2
) -> Tensor:
    """Feature maps [n, CHANNELS, h, w]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, CHANNELS, *size, generator=generator, dtype=torch.float64).to(dtype)


def make_head(pool: str = "avg+max", size: int = DIM, dtype: torch.dtype = torch.float64, cls: Any = None) -> nn.Module:
    """A PoolingHead, or a subclass; its weights are always the same."""
    head = (cls or mx.heads.PoolingHead)(CHANNELS, size, pool).to(dtype)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return head


def on_reference(call: Callable[[], Any]) -> Any:
    """What a call gives on the reference backend."""
    with mx.use_backend("reference"):
        return call()


def work(kind: str, n: int = 256) -> float:
    """Something that is large enough for several threads, with its backward."""
    x, labels = make_batch(n, torch.float32)
    x.requires_grad_()
    loss = make_loss("MultiSimilarityLoss", torch.float32)
    if kind == "retrieval":
        return float(mx.retrieval.recall_at_k(x.detach(), labels, 1)[1])
    if kind == "clean":
        value = loss(x, labels)
    elif kind == "embed":
        value = mx.Metrix(loss, mix="embed", pairs="pos-neg")(x, labels, seed=0)
    else:
        x, labels = x[:24].detach().requires_grad_(), labels[:24]
        maps, head = make_maps(24, (7, 7), torch.float32), make_head("max", dtype=torch.float32)
        value = mx.Metrix(loss, mix="feature", pairs="pos-neg")(x, labels, source=maps, encode=head, seed=0)
    value.backward()
    return float(value.detach()) + float(x.grad.sum())
