"""python -m bench.products, on emulated tensor cores."""

from __future__ import annotations

import pytest
import torch

from bench import products
from metrix_ext.ops import float_parts
from tests.support import tensor_cores


def test_rows_of_every_way(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor_cores.install(monkeypatch)
    monkeypatch.setattr(products, "ROUNDS", 1)
    kept = float_parts.PIECE
    rows = list(products.rows([64], [300, 20], [128, 256], torch.device("cpu")))
    assert [row[:3] for row in rows[:3]] == [
        ("64", "300", "plain"),
        ("64", "300", "parts, pieces of 128"),
        ("64", "300", "parts, pieces of 256"),
    ]
    assert all(len(row) == len(products.HEAD) for row in rows)
    assert all(float(error) < 1e-6 for row in rows for error in row[5:])
    assert kept == float_parts.PIECE


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert products.main([]) == 2
    assert capsys.readouterr().out == "bench.products: PyTorch finds no CUDA device\n"
