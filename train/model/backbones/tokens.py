"""The last feature map of a vision transformer, whose output is a sequence of tokens: one per patch, a few before.

"map": the tokens of the patches at their places, [n, c, h, w], pooled by the head as the map of a convolutional
network. Feature mixup then mixes the tokens of two images place by place, and pools the mix.

"class": the class token alone, [n, c, 1, 1], on which average and maximum pooling do nothing. Feature mixup then mixes
two vectors: what the head's linear layer makes of the mix is the mix of what it makes of them, normalised.
"""

from __future__ import annotations

import math

from torch import Tensor

MAP, CLASS = "map", "class"


def as_map(tokens: Tensor, kind: str, prefix: int) -> Tensor:
    """Tokens [n, prefix + h h, c], of a square image, to [n, c, h, h] or, of the first of `prefix`, [n, c, 1, 1]."""
    if kind == CLASS:
        return tokens[:, 0, :, None, None]
    patches = tokens[:, prefix:].transpose(1, 2)
    side = math.isqrt(patches.shape[2])
    return patches.unflatten(2, (side, side))
