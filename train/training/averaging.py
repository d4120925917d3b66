"""Exponential moving average of the weights."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class MovingAverage(AveragedModel):
    """A copy of the model, `module`, that follows it: at each `update_parameters(model)`, w <- decay w + (1 - decay) v.

    The first update copies. Running statistics of batch norm are averaged as the weights are, since they belong to
    them. `state_dict` has all that a run needs to go on.

    Args:
        model: on its device; it may be wrapped for several processes later.
        decay: from 0 to 1; the average reaches back about 1 / (1 - decay) steps.

    Raises:
        ValueError: decay is not in this range.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"decay: got {decay}, expected a number from 0 to 1")
        super().__init__(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self.requires_grad_(False)
