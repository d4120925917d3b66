"""Long-lived processes: threads, signals, memory over many changing shapes."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import metrix_ext as mx

from .support import CHANNELS, Outcome, gave, isolated, make_batch, make_head, make_loss, make_maps, on_reference, work

# ---- threads ----------------------------------------------------------------------------------------------


def train(kind: str, steps: int = 20) -> list[float]:
    """Losses of a small training with its own model, data and criterion."""
    generator = torch.Generator().manual_seed(len(kind))
    maps = torch.randn(16, CHANNELS, 4, 4, generator=generator)
    labels = torch.arange(16) % 4
    head = make_head("max", dtype=torch.float32)
    loss = make_loss("ProxyAnchorLoss" if kind == "proxies" else "MultiSimilarityLoss", torch.float32)
    mix = "feature" if kind == "feature" else "embed"
    criterion = mx.Metrix(loss, mix=mix, pairs="pos-neg")
    optimizer = torch.optim.SGD([*head.parameters(), *loss.parameters()], lr=0.01)
    losses = []
    for step in range(steps):
        by_mix = {"source": maps, "encode": head} if mix == "feature" else {}
        value = criterion(head(maps), labels, seed=step, **by_mix)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    return losses


def in_threads(functions: list[Callable[[], Any]]) -> list[Any]:
    results: list[Any] = [None] * len(functions)
    start = threading.Barrier(len(functions))

    def run(k: int) -> None:
        start.wait()
        results[k] = functions[k]()

    threads = [threading.Thread(target=run, args=(k,), daemon=True) for k in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def trained_together(kinds: tuple[str, ...], threads: int) -> tuple[list[Any], list[Any]]:
    torch.set_num_threads(threads)
    return in_threads([lambda kind=kind: train(kind) for kind in kinds]), [train(kind) for kind in kinds]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kinds", [("embed", "feature"), ("proxies", "embed"), ("feature", "feature", "feature")])
def test_trainings_in_threads_give_the_numbers_of_each_alone(kinds: tuple[str, ...], threads: int) -> None:
    """To the bit."""
    outcome = isolated(trained_together, kinds, threads, seconds=60.0)
    assert outcome.died is None and outcome.error is None, str(outcome)
    together, alone = outcome.value
    assert together == alone


def is_on_reference() -> bool:
    """Whether the calling thread's ops run on the reference: only that one has a second derivative."""
    x, labels = make_batch()
    loss = make_loss("ContrastiveLoss")(x.requires_grad_(), labels)
    try:
        torch.autograd.grad(loss, x, create_graph=True)
    except RuntimeError:
        return False
    return True


def overlapping_backends() -> list[bool]:
    """Two threads whose blocks overlap; what each sees inside, what this one sees meanwhile and afterwards."""
    first_entered, second_entered, first_left = (threading.Event() for _ in range(3))

    def first() -> bool:
        with mx.use_backend("reference"):
            first_entered.set()
            second_entered.wait(10)
            seen = is_on_reference()
        first_left.set()
        return seen

    def second() -> bool:
        first_entered.wait(10)
        with mx.use_backend("cpu"):
            second_entered.set()
            first_left.wait(10)
            return is_on_reference()

    def third() -> bool:
        first_entered.wait(10)
        return is_on_reference()

    return [*in_threads([first, second, third]), is_on_reference()]


def test_use_backend_in_a_thread_changes_no_other() -> None:
    """Inside: reference, cpu. Outside, meanwhile and afterwards: as before."""
    outcome = isolated(overlapping_backends)
    assert outcome.value == [True, False, False, False], str(outcome)


def left_in_another_order() -> list[bool]:
    """Two blocks of which the first to be entered is the first to be left, in one thread."""
    outer, inner = mx.use_backend("reference"), mx.use_backend("cpu")
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    seen = is_on_reference()
    inner.__exit__(None, None, None)
    return [seen, is_on_reference()]


def test_blocks_left_in_the_order_they_were_entered_leave_nothing_behind() -> None:
    """As generators and coroutines may leave them; at the end no backend is asked for."""
    outcome = isolated(left_in_another_order)
    assert outcome.value is not None and outcome.value[1] is False, str(outcome)


def gradients_of_another_thread() -> list[list[float]]:
    x, labels = make_batch()
    x.requires_grad_()
    with mx.use_backend("reference"):
        loss = make_loss("MultiSimilarityLoss")(x, labels)
    (made,) = in_threads([lambda: torch.autograd.grad(loss, x)[0].tolist()])
    (right,) = torch.autograd.grad(make_loss("MultiSimilarityLoss")(x, labels), x)
    return [made, right.tolist()]


def test_backward_in_another_thread_is_that_of_the_forward_pass() -> None:
    outcome = isolated(gradients_of_another_thread)
    assert outcome.value is not None, str(outcome)
    gave(Outcome(outcome.value[0]), outcome.value[1])


# ---- memory -----------------------------------------------------------------------------------------------


def resident() -> int:
    """Bytes in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def step_of_any_shape(draw: random.Random) -> None:
    n, size = draw.randint(2, 48), draw.randint(1, 7)
    x, labels = make_batch(n, torch.float32, seed=draw.randint(0, 99))
    x.requires_grad_()
    loss: nn.Module = make_loss("MultiSimilarityLoss", torch.float32)
    kind = draw.choice(["clean", "embed", "feature", "hard", "retrieval"])
    given: dict[str, Tensor | nn.Module] = {}
    if kind == "retrieval":
        mx.retrieval.recall_at_k(x, labels, 1)
        return
    if kind == "feature":
        given = {"source": make_maps(n, (size, size), torch.float32), "encode": make_head("max", dtype=torch.float32)}
    if kind != "clean":
        mix, k = ("feature" if kind == "feature" else "embed"), (2 if kind == "hard" else None)
        loss = mx.Metrix(loss, mix=mix, alpha=draw.uniform(0.5, 4.0), hard_negatives=k)
    loss(x, labels, **given).backward()


def growth(warm: int, steps: int) -> tuple[int, int]:
    """Bytes, and objects that Python knows, which the later steps leave behind."""
    draw = random.Random(0)
    torch.manual_seed(0)
    random.seed(0)
    sizes = []
    for count in (warm, steps):
        for _ in range(count):
            step_of_any_shape(draw)
        gc.collect()
        sizes.append((resident(), len(gc.get_objects())))
    (bytes_before, objects_before), (bytes_after, objects_after) = sizes
    return bytes_after - bytes_before, objects_after - objects_before


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="counts pages as Linux does")
@pytest.mark.parametrize(
    ("warm", "steps"), [(200, 600), pytest.param(1000, 10_000, marks=pytest.mark.slow)], ids=["600", "10000"]
)
def test_memory_does_not_grow_over_steps_of_changing_shapes(warm: int, steps: int) -> None:
    """Caches are bounded: 24 MiB and a thousand objects are left to them and to the allocator."""
    outcome = isolated(growth, warm, steps, seconds=900.0)
    assert outcome.value is not None, str(outcome)
    grown, objects = outcome.value
    assert grown < 24 * 2**20, f"{grown / 2**20:.1f} MiB more after {steps} steps"
    assert objects < 1000, f"{objects} objects more after {steps} steps"


# ---- signals ----------------------------------------------------------------------------------------------


class Interrupted(Exception):
    """Raised by the handler of the test."""


def long_kernel(n: int = 700) -> float:
    """Some tenths of a second in one kernel: pairs of negatives are n^3."""
    x, labels = make_batch(n, torch.float32)
    criterion = mx.Metrix(make_loss("MultiSimilarityLoss", torch.float32), mix="embed", pairs="neg-neg")
    return float(criterion(x, labels, seed=0))


def interrupted(number: int) -> tuple[bool, float, float, float]:
    """Whether the handler's exception came through, after how long, and the numbers before and after."""

    def handler(_number: int, _frame: Any) -> None:
        raise Interrupted

    signal.signal(number, handler)
    before = work("embed")
    timer = threading.Timer(0.05, os.kill, (os.getpid(), number))
    begin = time.monotonic()
    timer.start()
    try:
        while time.monotonic() - begin < 20:
            long_kernel()
        came = False
    except Interrupted:
        came = True
    waited = time.monotonic() - begin
    return came, waited, before, work("embed")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_during_a_kernel_arrives_after_it_and_harms_nothing(number: int) -> None:
    outcome = isolated(interrupted, int(number), seconds=60.0)
    assert outcome.value is not None, str(outcome)
    came, waited, before, after = outcome.value
    assert came and waited < 15, f"arrived: {came}, after {waited:.1f} s"
    assert before == after


def terminated() -> None:
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    begin = time.monotonic()
    while time.monotonic() - begin < 20:
        long_kernel()


def test_sigterm_ends_a_process_in_a_kernel() -> None:
    assert isolated(terminated, seconds=30.0).died == "ends with SIGTERM"


def other_threads_run_meanwhile() -> int:
    """How often another thread of Python gets its turn during a kernel."""
    turns, done = 0, threading.Event()

    def count() -> None:
        nonlocal turns
        while not done.wait(0.002):
            turns += 1

    thread = threading.Thread(target=count)
    thread.start()
    long_kernel()
    done.set()
    thread.join()
    return turns


def test_a_kernel_lets_other_threads_run() -> None:
    outcome = isolated(other_threads_run_meanwhile, seconds=60.0)
    assert outcome.value is not None and outcome.value > 5, str(outcome)


# ---- restored ---------------------------------------------------------------------------------------------


def test_use_backend_is_restored_after_an_error() -> None:
    with pytest.raises(KeyError), mx.use_backend("reference"):
        raise KeyError
    assert not is_on_reference()
    assert on_reference(is_on_reference)
