"""Batches of several images of each of several classes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from train.data.sampler import BalancedBatches


def test_batches_are_balanced_and_classes_come_equally_often():
    labels = np.repeat(np.arange(10), 7)
    sampler = BalancedBatches(labels, batch_size=20, images_per_class=4, seed=0)
    seen: Counter[int] = Counter()
    for epoch in range(4):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler) == 3
        for batch in batches:
            assert len(set(batch)) == 20
            assert sorted(Counter(labels[batch].tolist()).values()) == [4] * 5
        seen.update(labels[[i for batch in batches[:2] for i in batch]].tolist())
    assert set(seen.values()) == {4 * 4}


def test_batches_follow_from_seed_and_epoch():
    labels = np.repeat(np.arange(10), 7)

    def batches(seed, epoch):
        sampler = BalancedBatches(labels, 20, 4, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert batches(0, 1) == batches(0, 1)
    assert batches(0, 1) != batches(0, 2)
    assert batches(0, 1) != batches(1, 1)


def test_small_classes_repeat_images():
    sampler = BalancedBatches(np.array([0, 1, 1, 1]), 6, 3, seed=0)
    (batch,) = sampler
    assert Counter(batch)[0] == 3
    assert sorted(i for i in batch if i) == [1, 2, 3]


@pytest.mark.parametrize(("batch", "per_class"), [(10, 3), (30, 5)])
def test_impossible_batches_are_refused(batch, per_class):
    with pytest.raises(ValueError, match="batch"):
        BalancedBatches(np.repeat(np.arange(5), 7), batch, per_class, seed=0)
