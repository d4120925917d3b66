"""From the last feature map to the embedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .ops.autocast import autocast_dtype
from .ops.checks.tensors import FLOATING
from .ops.unit_rows import unit_norm
from .terms.checks import check_choice, check_whole

POOLS = ("avg", "max", "avg+max")


class PoolingHead(nn.Module):
    """Pool, linear layer, l2 norm: f_m of Eq. (4), with the average and max pooling of Kim et al. 2020 summed.

    Args:
        in_channels: c of the feature map.
        embedding_size: d.
        pool: "avg", "max" or "avg+max" (their sum).

    Raises:
        ValueError: there is no such pool, or a size is not positive.
    """

    def __init__(self, in_channels: int = 2048, embedding_size: int = 512, pool: str = "avg+max") -> None:
        super().__init__()
        self.pool = check_choice("pool", pool, POOLS)
        in_channels = check_whole("in_channels", in_channels)
        embedding_size = check_whole("embedding_size", embedding_size)
        self.linear = nn.Linear(in_channels, embedding_size)
        nn.init.kaiming_normal_(self.linear.weight, mode="fan_out")
        nn.init.zeros_(self.linear.bias)

    @property
    def commutes_with_mixing(self) -> bool:
        """Whether pool and linear layer of a mix are the mix of pool and linear layer: all but the max are linear."""
        return self.pool == "avg"

    def check(self, features: Tensor) -> None:
        """Raises TypeError or ValueError unless features is [n, c, h, w] as the linear layer takes, and not 0 x 0."""
        if not isinstance(features, Tensor):
            raise TypeError(f"features: got {type(features).__name__}, expected a tensor [n, c, h, w]")
        if features.layout != torch.strided or features.dtype not in FLOATING:
            kind = f"a tensor that is {features.layout}".replace("torch.", "")
            got = kind if features.layout != torch.strided else features.dtype
            raise TypeError(f"features: got {got}, expected float16, bfloat16, float32 or float64")
        channels = getattr(self.linear, "in_features", None)  # a module in the layer's place need not have them
        wrong = features.dim() == 4 and channels not in (None, features.shape[1])
        if features.dim() != 4 or wrong or 0 in features.shape[2:]:
            raise ValueError(f"features: got {list(features.shape)}, expected [n, {channels or 'c'}, h, w]")
        self._check_layer(features)

    def _check_layer(self, features: Tensor) -> None:
        """The layer is a whole one, on the device of the features and of their type, unless autocast gives another."""
        weight = next(self.linear.parameters(), features)
        if type(self.linear) is nn.Linear:
            (weight, bias), channels = (self.linear.weight, self.linear.bias), features.shape[1]
            if weight is None or weight.layout != torch.strided or weight.dim() != 2 or weight.shape[1] != channels:
                got = None if weight is None else f"{list(weight.shape)}, {weight.layout}"
                raise ValueError(f"encode: has a linear layer with weight {got}, expected a dense [d, {channels}]")
            wanted = [weight.shape[0]], weight.dtype, torch.strided
            if bias is not None and (list(bias.shape), bias.dtype, bias.layout) != wanted:
                got = f"{bias.dtype} {list(bias.shape)}, {bias.layout}"
                raise ValueError(f"encode: has a linear layer with bias {got}, expected {wanted[1]} {wanted[0]}, dense")
        if features.device != weight.device:
            raise ValueError(f"features: is on {features.device}, expected {weight.device} as the linear layer")
        exact = torch.promote_types(features.dtype, weight.dtype) if weight.is_floating_point() else None
        if exact != weight.dtype and autocast_dtype(features.device) is None:
            raise TypeError(f"features: got {features.dtype}, expected {weight.dtype} as the linear layer")

    def max_pool(self, features: Tensor) -> Tensor:
        """[n, c, h, w] to [n, c]; among equal maxima the first takes the gradient."""
        return F.max_pool2d(features, features.shape[-2:]).flatten(1)

    def average_pool(self, features: Tensor) -> Tensor:
        """[n, c, h, w] to [n, c]."""
        return features.mean(dim=(-2, -1))

    def project(self, features: Tensor) -> Tensor:
        """[n, c, h, w] to the embedding before its l2 norm, [n, d]."""
        self.check(features)
        if autocast_dtype(features.device) is None:  # half types from a backbone under autocast
            features = features.to(next(self.linear.parameters(), features).dtype)
        if self.pool == "avg":
            return self.linear(self.average_pool(features))
        if self.pool == "max":
            return self.linear(self.max_pool(features))
        return self.linear(self.average_pool(features) + self.max_pool(features))

    def normalize(self, projected: Tensor) -> Tensor:
        """Unit norm; half types become float32."""
        return unit_norm(projected.float() if projected.dtype in (torch.float16, torch.bfloat16) else projected)

    def forward(self, features: Tensor) -> Tensor:
        """[n, c, h, w] to unit-norm embeddings [n, d].

        Raises:
            ValueError: features is not [n, in_channels, h, w].
        """
        return self.normalize(self.project(features))

    def extra_repr(self) -> str:
        return f"pool={self.pool!r}"
