"""A step of the optimizer."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")
pytest.importorskip("torchvision")

from train.training import loop


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_a_step_clips_each_entry_and_leaves_alone_what_does_not_learn_yet(clip):
    head, backbone = torch.zeros(2, requires_grad=True), torch.ones(2)
    optimizer = torch.optim.SGD([{"params": [backbone]}, {"params": [head]}], lr=1.0)
    loop.step(optimizer, (head * torch.tensor([0.25, 3.0])).sum(), clip)
    assert head.tolist() == [-0.25, -(clip or 3.0)]
    assert backbone.tolist() == [1.0, 1.0]
