"""What every backbone is: a module, the number of its channels, the statistics that its input is normalised by."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...data.statistics import Statistics
from ...errors import UserError, one_line


@dataclass(frozen=True)
class Backbone:
    """module: images [n, 3, H, W], normalised by the statistics, to the last feature map [n, channels, h, w]."""

    module: nn.Module
    channels: int
    statistics: Statistics


def measured(arch: str, module: nn.Module, image_size: int, statistics: Statistics) -> Backbone:
    """The channels are those of the map of one image. Raises UserError if the module does not take it."""
    try:
        shape = feature_map(module, image_size).shape
    except Exception as error:  # as many kinds as networks have ways to be built for another size
        raise UserError(
            f"--arch {arch} takes no images of {image_size} pixels ({one_line(error)}): give another --image-size"
        ) from None
    if len(shape) != 4 or 0 in shape:
        raise UserError(f"--arch {arch} gives {list(shape)} for an image of {image_size} pixels, expected [1, c, h, w]")
    return Backbone(module, shape[1], statistics)


@torch.no_grad()
def feature_map(module: nn.Module, image_size: int) -> Tensor:
    """Of one image, without values: nothing is computed, and the module's buffers stay as they are."""
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    training = module.training
    module.eval()  # batch norm takes no statistics of one image
    try:
        image = torch.empty(1, 3, image_size, image_size, device="meta")
        return functional_call(module, {name: tensor.to("meta") for name, tensor in state.items()}, (image,))
    finally:
        module.train(training)


def unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    close = difflib.get_close_matches(name, list(known), 3)
    return UserError(f"{what} has no {name}" + (f": perhaps {' or '.join(close)}" if close else ""))
