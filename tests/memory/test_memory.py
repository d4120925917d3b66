"""The memory around a criterion in one process."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import metrix_ext as mx
from tests.memory.by_hand import LAM, SEED, STRENGTH, Queue, batches
from tests.mixing.against_loops import every_set, metrix
from tests.support.compare import assert_close, assert_same_bits
from tests.support.loss_cases import CASES, DIM, leaf
from tests.support.loss_tests import Build, gradients, pair_case, random_batch

SIZES = [4, 3, 5, 0, 1, 7, 2]  # fills, goes round in the middle of a batch, is filled by one
with_memory = [*(name for name in CASES if not name.startswith("proxynca"))]


def remembering(criterion: nn.Module, memory_size: int = 7, **options: Any) -> nn.Module:
    return mx.memory.CrossBatchMemory(criterion, DIM, memory_size, **options)


def mixing(loss: nn.Module, pairs: str | None) -> nn.Module:
    return loss if pairs is None else metrix(loss, pairs=pairs, strength=STRENGTH, lam=LAM)


@pytest.mark.parametrize("name", with_memory)
def test_losses_like_a_loop(backend: str, build: Build, name: str) -> None:
    check_like_a_loop(build(CASES[name]), name, None)


@pytest.mark.parametrize("name", ["ms", "contrastive-mean", "pa"])
@every_set
def test_metrix_like_a_loop(backend: str, build: Build, name: str, pairs: str) -> None:
    check_like_a_loop(build(CASES[name]), name, pairs)


def check_like_a_loop(loss: nn.Module, name: str, pairs: str | None) -> None:
    memory, queue = remembering(mixing(loss, pairs)), Queue(7)
    proxies = list(loss.parameters())
    for x, labels in batches(SIZES):
        got = memory(x, labels)
        places = queue.add(x, labels)
        want = queue.expected(CASES[name], x, labels, places, pairs, *proxies)
        assert_close(gradients(got, [x, *proxies]), gradients(want, [x, *proxies]), rtol=1e-10)
        assert_same_bits([memory.embeddings[: len(queue.rows)]], [torch.stack(queue.rows)])
        assert memory.labels[: len(queue.labels)].tolist() == queue.labels
        assert (int(memory.position), int(memory.filled)) == (queue.next, len(queue.rows))
    assert int(memory.steps) == len(SIZES)


@pair_case
@every_set
def test_a_memory_of_the_batch_alone(build: Build, name: str, pairs: str) -> None:
    """At the first call it has nothing else: the loss of the batch, with the lambdas that it would draw."""
    (x, labels), *_ = batches([6])
    criterion = metrix(build(CASES[name]), pairs=pairs, strength=STRENGTH)
    assert_close([remembering(criterion)(x, labels, seed=SEED)], [criterion(x, labels, seed=SEED)], rtol=1e-12)


def test_equal_embeddings_are_positives_all_the_same(build: Build) -> None:
    """The copy is known by its row: what only looks like it counts."""
    loss = build(CASES["contrastive"])
    (x, labels), *_ = batches([3])
    memory = remembering(loss)
    memory(x, labels)
    twice = loss(x, labels, ref_emb=torch.cat((x, x)), ref_labels=labels.repeat(2), ref_self=torch.arange(3, 6))
    assert_close([memory(x, labels)], [twice], rtol=1e-12)


@pytest.mark.parametrize("name", ["ms", "pa"])
def test_starts_after_some_steps(build: Build, name: str) -> None:
    """With what it has been filled with from the first step on."""
    loss = build(CASES[name])
    memory, queue = remembering(loss, start=2), Queue(7)
    for step, (x, labels) in enumerate(batches([3, 2, 4, 3])):
        got, places = memory(x, labels), queue.add(x, labels)
        if step < 2:
            assert_same_bits([got], [loss(x, labels)])
        else:
            assert_close([got], [queue.expected(CASES[name], x, labels, places, None, *loss.parameters())], rtol=1e-10)


def test_evaluation_changes_nothing(build: Build) -> None:
    loss = build(CASES["ms"])
    memory = remembering(loss)
    first, second, third = batches([3, 2, 4])
    memory(*first)
    before = copy.deepcopy(memory.state_dict())
    assert_same_bits([memory.eval()(*second)], [loss(*second)])
    assert_same_bits(list(memory.state_dict().values()), list(before.values()))
    untouched = remembering(loss)
    untouched(*first)
    assert_same_bits([memory.train()(*third)], [untouched(*third)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("after", range(len(SIZES)))
def test_resumes_from_a_state_dict(build: Build, dtype: torch.dtype, after: int, tmp_path: Path) -> None:
    def made() -> nn.Module:
        return remembering(metrix(build(CASES["pa"], dtype=dtype), strength=STRENGTH), start=1)

    memory = made()
    steps = [(x.detach().to(dtype), labels) for x, labels in batches(SIZES)]
    for x, labels in steps[:after]:
        memory(x, labels, seed=SEED)
    torch.save(memory.state_dict(), tmp_path / "checkpoint")
    resumed = made()
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint", weights_only=True))
    for x, labels in steps[after:]:
        assert_same_bits([resumed(x, labels, seed=SEED)], [memory(x, labels, seed=SEED)])
    assert_same_bits(list(resumed.state_dict().values()), list(memory.state_dict().values()))


def test_loads_as_a_part_of_a_module(build: Build) -> None:
    """And into one that has been called already: what it knew of its counts is no longer so."""
    whole = nn.ModuleDict({"memory": remembering(build(CASES["ms"]))})
    start = copy.deepcopy(whole.state_dict())
    steps = batches([3, 6])
    first = [whole["memory"](*step) for step in steps]
    filled = copy.deepcopy(whole.state_dict())
    whole.load_state_dict(start)
    assert_same_bits([whole["memory"](*step) for step in steps], first)
    assert_same_bits(list(whole.state_dict().values()), list(filled.values()))


def test_is_saved_whole_and_copied(build: Build) -> None:
    memory = remembering(build(CASES["ms"]))
    first, second = batches([3, 6])
    memory(*first)
    file = io.BytesIO()
    torch.save(memory, file)
    file.seek(0)
    copies = [copy.deepcopy(memory), torch.load(file, weights_only=False)]
    want = memory(*second)
    for other in copies:
        assert_same_bits([other(*second)], [want])


def test_several_calls_before_backward(build: Build) -> None:
    """What a call has saved for backward is not what the next one writes to."""
    steps = batches([4, 3, 5])
    for name in ("ms", "pa"):
        late, early = (remembering(metrix(build(CASES[name]), lam=LAM), 5) for _ in range(2))
        values = [late(*step) for step in steps]
        together = [torch.autograd.grad(value, x)[0] for value, (x, _) in zip(values, steps, strict=True)]
        one_by_one = [torch.autograd.grad(early(x, labels), x)[0] for x, labels in steps]
        assert_same_bits(together, one_by_one)


def test_nothing_flows_into_the_memory(build: Build) -> None:
    first, second = batches([4, 3])
    memory = remembering(build(CASES["ms"]))
    memory(*first)
    memory(*second).backward()
    assert first[0].grad is None and second[0].grad.any()
    assert not memory.embeddings.requires_grad


def test_parts(build: Build) -> None:
    loss = build(CASES["ms"])
    criterion = metrix(loss, pairs="anc-neg", strength=STRENGTH)
    first, (x, labels) = batches([4, 3])
    mixed, clean = remembering(criterion), remembering(loss)
    mixed(*first)
    clean(*first)
    again = copy.deepcopy(mixed)
    parts = mixed.parts(x, labels, seed=SEED)
    assert_same_bits([parts.loss], [again(x, labels, seed=SEED)])
    assert_close([parts.clean, parts.clean + STRENGTH * parts.mixed], [clean(x, labels), parts.loss], rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_types_are_remembered_as_float32(build: Build, dtype: torch.dtype) -> None:
    memory = remembering(build(CASES["ms"], dtype=torch.float32))
    exact = remembering(build(CASES["ms"], dtype=torch.float32))
    for x, labels in batches([4, 5]):
        half = leaf(x.to(dtype))
        value = memory(half, labels)
        value.backward()
        assert value.dtype == memory.embeddings.dtype == torch.float32 and half.grad.dtype == dtype
        assert_close([value], [exact(half.float(), labels)], rtol=1e-6)


@pytest.mark.parametrize("name", ["ms", "pa"])
def test_compiled_like_eager(build: Build, name: str) -> None:
    """While it fills and afterwards, without being compiled for every step."""
    torch.compiler.reset()
    eager, other = (remembering(metrix(build(CASES[name]), lam=LAM), 40, start=2) for _ in range(2))
    compiled = torch.compile(other, backend="aot_eager")
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        for x, labels in batches([4] * 14):
            assert_close(gradients(compiled(x, labels), [x]), gradients(eager(x, labels), [x]), rtol=1e-12)


def test_in_micro_batches(build: Build) -> None:
    """GradCache calls its criterion once a step: gradients and memory are those of the whole batch."""
    whole, cached = (nn.Linear(DIM, DIM).double() for _ in range(2))
    cached.load_state_dict(whole.state_dict())
    of_whole, of_cached = (remembering(metrix(build(CASES["pa"]), lam=LAM)) for _ in range(2))
    step = mx.GradCache(of_cached, cached, micro_batch=2)
    for x, labels in batches([5, 4, 6]):
        value = of_whole(whole(x.detach()), labels)
        value.backward()
        assert step(x.detach(), labels) == pytest.approx(value.item(), rel=1e-12)
    got, want = (
        [parameter.grad for parameter in (*model.parameters(), *memory.parameters())]
        for model, memory in ((cached, of_cached), (whole, of_whole))
    )
    assert_close(got, want, rtol=1e-12)
    assert_close([of_cached.embeddings], [of_whole.embeddings], rtol=1e-12)


@pytest.mark.parametrize(
    ("criterion", "words"),
    [
        (nn.CrossEntropyLoss(), "criterion: got CrossEntropyLoss, expected a loss of metrix_ext.losses or Metrix"),
        (mx.losses.ProxyNCALoss(4, DIM), "criterion: ProxyNCALoss compares examples with its proxies alone"),
        (
            mx.Metrix(mx.losses.ProxyNCAPlusPlusLoss(4, DIM), mix="embed"),
            "criterion: ProxyNCAPlusPlusLoss compares examples with its proxies alone",
        ),
        (
            mx.Metrix(mx.losses.NCALoss(), mix=("embed", "feature")),
            "criterion: mixes embed, feature, but a memory has embeddings: expected mix='embed'",
        ),
    ],
)
def test_criteria_that_cannot_use_it(criterion: nn.Module, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        mx.memory.CrossBatchMemory(criterion, DIM)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"embedding_size": 0}, "embedding_size: got 0, expected a whole number of at least 1"),
        ({"memory_size": 2.5}, "memory_size: got 2.5, expected a whole number"),
        ({"start": -1}, "start: got -1, expected a whole number of at least 0"),
        ({"gather": 1}, "gather: got 1, expected True or False"),
    ],
)
def test_bad_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        mx.memory.CrossBatchMemory(mx.losses.NCALoss(), **{"embedding_size": DIM, **options})


INDEX = torch.zeros(1, dtype=torch.int64)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"embeddings": torch.zeros(8, DIM), "labels": [0] * 8}, "embeddings: got 8 in a batch, expected at most 7"),
        ({"embeddings": torch.zeros(3, DIM + 1)}, r"embeddings: got \[3, 7\], expected \[n, 6\] as embedding_size"),
        ({"embeddings": torch.zeros(3, DIM, device="meta")}, "memory: is on cpu, expected meta as embeddings"),
        ({"labels": torch.zeros(2).long()}, r"labels: got \[2\], expected \[3\] as embeddings"),
        ({"labels": torch.zeros(3)}, "labels: got torch.float32, expected integers"),
        (
            {"indices_tuple": (INDEX, INDEX, INDEX)},
            "indices_tuple: got one, expected none: a batch is compared with all",
        ),
        ({"ref_emb": torch.zeros(2, DIM)}, "ref_emb: got one, expected none"),
    ],
)
def test_bad_calls_leave_the_memory_alone(given: dict[str, Any], words: str) -> None:
    memory = remembering(mx.losses.NCALoss())
    x, labels = random_batch(3)
    memory(x, labels)
    before = copy.deepcopy(memory.state_dict())
    with pytest.raises((TypeError, ValueError), match=words):
        memory(**{"embeddings": x, "labels": labels, **given})
    assert_same_bits(list(memory.state_dict().values()), list(before.values()))


def test_a_batch_as_large_as_the_memory(build: Build) -> None:
    """Is all that there is."""
    loss = build(CASES["ms"])
    memory = remembering(loss)
    for x, labels in batches([7, 2, 7]):
        value = memory(x, labels)
    assert_close([value], [loss(x, labels)], rtol=1e-12)


def test_says_what_it_is() -> None:
    assert "embedding_size=6, memory_size=7, start=3" in repr(remembering(mx.losses.NCALoss(), start=3))
