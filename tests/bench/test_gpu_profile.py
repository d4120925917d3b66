"""What of python -m bench.gpu.profile needs no GPU: names, the table, and the losses of its cases when small."""

from __future__ import annotations

import pytest
import torch

from bench.gpu import profile
from bench.gpu.profile import Kernel, Profile


def test_names_are_short() -> None:
    long = "void metrix::cuda::(anonymous namespace)::class_order_kernel(long, long const*, metrix::ClassOrder)"
    assert profile.short(long) == "class_order_kernel"
    assert profile.short("void metrix::cuda::scatter_gradient<float, 2>(metrix::A)") == "scatter_gradient<float, 2>"
    assert len(profile.short("x" * 200)) == 72


def test_table_has_every_case_and_its_longest_kernels() -> None:
    kernels = [Kernel(f"kernel_{k}", 2, 1.0 / (k + 1)) for k in range(20)]
    text = profile.table(
        [Profile("a case", 3.5, None, 12.0, kernels)], {"device": "GPU", "date": "today", "versions": {}, "gpu": {}}
    )
    assert "| a case | 3.500 |  | 40 |" in text
    assert "`kernel_11`" in text
    assert "`kernel_12`" not in text


@pytest.mark.parametrize("make", [lambda: profile.embed(8, 2), lambda: profile.embed(8, 2, "clean")])
def test_cases_have_a_loss_with_gradients(make) -> None:
    loss, leaves = make().make(torch.device("cpu"))
    loss(leaves[0]).backward()
    assert leaves[0].grad.isfinite().all()


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert profile.main([]) == 2
    assert "no GPU" in capsys.readouterr().out
