"""Which images make the batches of an epoch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from train.data.sampler import BalancedBatches, Batches, RandomBatches

LABELS = np.repeat(np.arange(10), 7)


def test_batches_are_balanced_and_classes_come_equally_often():
    choice = BalancedBatches(LABELS, batch_size=20, images_per_class=4, seed=0)
    seen: Counter[int] = Counter()
    for epoch in range(4):
        batches = list(choice.of_epoch(epoch))
        assert len(batches) == choice.batches == 3
        for batch in batches:
            assert len(set(batch)) == 20
            assert sorted(Counter(LABELS[batch].tolist()).values()) == [4] * 5
        seen.update(LABELS[[i for batch in batches[:2] for i in batch]].tolist())
    assert set(seen.values()) == {4 * 4}


def test_random_batches_have_every_image_once():
    choice = RandomBatches(70, batch_size=20, seed=0)
    batches = list(choice.of_epoch(0))
    assert [len(batch) for batch in batches] == [20] * choice.batches == [20] * 3
    assert len({i for batch in batches for i in batch}) == 60
    assert batches != list(choice.of_epoch(1))


@pytest.mark.parametrize(
    "make", [lambda seed: BalancedBatches(LABELS, 20, 4, seed), lambda seed: RandomBatches(70, 20, seed)]
)
def test_batches_follow_from_seed_and_epoch(make):
    def batches(seed, epoch):
        return list(make(seed).of_epoch(epoch))

    assert batches(0, 1) == batches(0, 1)
    assert batches(0, 1) != batches(0, 2)
    assert batches(0, 1) != batches(1, 1)


def test_an_epoch_goes_on_where_it_was_left():
    """With the same images and the same seeds of their augmentation, of which no two are equal."""
    batches = Batches(RandomBatches(70, 20, seed=3), seed=3)
    batches.set_position(5, 0)
    whole = list(batches)
    batches.set_position(5, 2)
    assert (len(batches), list(batches)) == (1, whole[2:])
    seeds = [draw.seed for batch in whole for draw in batch]
    assert len(set(seeds)) == len(seeds)
    batches.set_position(6, 0)
    assert not set(seeds) & {draw.seed for batch in batches for draw in batch}


def test_small_classes_repeat_images():
    choice = BalancedBatches(np.array([0, 1, 1, 1]), 6, 3, seed=0)
    (batch,) = choice.of_epoch(0)
    assert Counter(batch)[0] == 3
    assert sorted(i for i in batch if i) == [1, 2, 3]


@pytest.mark.parametrize(("batch", "per_class"), [(10, 3), (30, 5)])
def test_impossible_batches_are_refused(batch, per_class):
    with pytest.raises(ValueError, match="batch"):
        BalancedBatches(np.repeat(np.arange(5), 7), batch, per_class, seed=0)


def test_fewer_images_than_a_batch_are_refused():
    with pytest.raises(ValueError, match="a batch of 20 is more than the 19 training images"):
        RandomBatches(19, 20, seed=0)
