"""Tensors that are kept: per stream, out of graphs that are being captured, and out of inference mode."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metrix_ext.terms import kept, mixes, used_pairs
from metrix_ext.terms.kept import Kept
from metrix_ext.terms.relations import Relations

CPU = torch.device("cpu")


class Gpu:
    """What the streams of a device would say."""

    def __init__(self) -> None:
        self.stream = 1
        self.capturing = False


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    gpu = Gpu()
    monkeypatch.setattr(kept, "_stream", lambda device: gpu.stream)
    monkeypatch.setattr(kept, "_is_capturing", lambda device: gpu.capturing)
    return gpu


@pytest.fixture
def zeros() -> Kept[Tensor]:
    return Kept(lambda n, device: torch.zeros(n, device=device), size=2)


def test_is_made_once_per_stream(gpu: Gpu, zeros: Kept[Tensor]) -> None:
    first = zeros(3, CPU)
    assert zeros(3, CPU) is first
    gpu.stream = 2
    other = zeros(3, CPU)
    assert other is not first
    gpu.stream = 1
    assert zeros(3, CPU) is first


def test_the_last_used_stay(gpu: Gpu, zeros: Kept[Tensor]) -> None:
    three, four = zeros(3, CPU), zeros(4, CPU)
    assert zeros(3, CPU) is three
    zeros(5, CPU)
    assert zeros(3, CPU) is three
    assert zeros(4, CPU) is not four


def test_what_a_capture_makes_is_not_kept(gpu: Gpu, zeros: Kept[Tensor]) -> None:
    gpu.capturing = True
    in_graph = zeros(3, CPU)
    assert zeros(3, CPU) is not in_graph
    gpu.capturing = False
    assert zeros(3, CPU) is not in_graph


def test_a_capture_reads_what_another_stream_has_made_before_and_that_stays(gpu: Gpu, zeros: Kept[Tensor]) -> None:
    warm = zeros(3, CPU)
    gpu.stream, gpu.capturing = 2, True
    assert zeros(3, CPU) is warm
    gpu.capturing = False
    for n in range(4, 9):
        zeros(n, CPU)
    gpu.capturing = True
    assert zeros(3, CPU) is warm


def test_no_inference_tensors(gpu: Gpu, zeros: Kept[Tensor]) -> None:
    for capturing in (True, False):
        gpu.capturing = capturing
        with torch.inference_mode():
            made = zeros(3, CPU)
        assert not made.is_inference()


def test_another_size_or_device_is_another_result(gpu: Gpu, zeros: Kept[Tensor]) -> None:
    assert len(zeros(3, CPU)) == 3
    assert len(zeros(4, CPU)) == 4
    assert zeros(3, torch.device("meta")).is_meta


def test_lists_of_pairs_are_kept_per_stream(gpu: Gpu) -> None:
    first = mixes.all_pairs(6, True, CPU)
    lists = used_pairs._kept_lists(6, True, 4, CPU)
    assert mixes.all_pairs(6, True, CPU) is first
    assert used_pairs._kept_lists(6, True, 4, CPU) is lists
    gpu.stream = 2
    assert mixes.all_pairs(6, True, CPU) is not first
    assert used_pairs._kept_lists(6, True, 4, CPU) is not lists


def test_lists_of_pairs_made_in_a_capture_are_not_kept(gpu: Gpu) -> None:
    gpu.capturing = True
    first = mixes.all_pairs(7, True, CPU)
    lists = used_pairs._kept_lists(7, True, 4, CPU)
    gpu.capturing = False
    assert mixes.all_pairs(7, True, CPU) is not first
    assert used_pairs._kept_lists(7, True, 4, CPU) is not lists


def test_nothing_is_kept_of_a_tracing_mode(gpu: Gpu) -> None:
    relations = Relations.from_labels(*(torch.arange(8) // 2,) * 2, torch.arange(8))
    with torch._subclasses.FakeTensorMode():
        fake, _ = mixes.all_pairs(8, True, CPU)
    assert type(mixes.all_pairs(8, True, CPU)[0]) is Tensor
    assert type(fake) is not Tensor
    assert len([*used_pairs.used_pairs(relations, "pos-neg", True, 8, 5)]) > 1
