"""Miners of pytorch-metric-learning by name: which pairs of a batch count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ..errors import UserError, one_line

CLASSES = {
    "ms": "MultiSimilarityMiner",
    "triplet-margin": "TripletMarginMiner",
    "pair-margin": "PairMarginMiner",
    "batch-hard": "BatchHardMiner",
    "batch-easy-hard": "BatchEasyHardMiner",
    "distance-weighted": "DistanceWeightedMiner",
    "angular": "AngularMiner",
}


def make_miner(name: str, options: Mapping[str, Any]) -> Callable[[Tensor, Tensor], tuple[Tensor, ...]] | None:
    """None for "none"."""
    if name == "none":
        return None
    try:
        from pytorch_metric_learning import miners
    except ImportError:
        raise UserError(
            f"--miner {name} needs pytorch-metric-learning: pip install pytorch-metric-learning, or --miner none"
        ) from None
    try:
        return getattr(miners, CLASSES[name])(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"--miner {name} does not take these options: {one_line(error)}") from None
