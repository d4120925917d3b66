"""Feature mixup through a PoolingHead with a maximum: Eq. (9) over mixes of feature maps."""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch.batch import Batch
from ..heads import PoolingHead
from ..ops.autocast import autocast_dtype
from ..ops.feature_chunks import FeatureSumsArguments
from ..ops.feature_sums import feature_sums
from ..ops.maps import compute_dtype
from ..ops.tracing import may_need_gradient
from ..terms.formula import Rho, flat
from .lambdas import Lambda


def default_workspace(device: torch.device) -> int:
    """Bytes for pooled mixes, their gradients and projections: 128 MiB, on a GPU a twelfth of its memory.

    A GPU has the more to gain: what is kept is not formed again, and kernels over many mixes fill it better.
    """
    if device.type != "cuda":
        return 128 * 2**20
    return torch.cuda.get_device_properties(device).total_memory // 12


def mix_features(
    batch: Batch,
    rho: tuple[Rho, Rho],
    pairs: str,
    lam: Lambda,
    features: Tensor,
    head: PoolingHead,
    workspace: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Both sums of every anchor over mixed feature maps, pooled, projected and l2-normalised.

    Under autocast the pooling and the projection run in its type, as those of the head do; similarities never do.

    Args:
        features: [n, c, h, w] in the caller's order.
        workspace: bytes; None takes default_workspace of the device.

    Returns:
        sums, nonzero [m, 2] as of pair_sums.
    """
    head.check(features)
    relations, weight, bias, anchors = batch.relations, head.linear.weight, head.linear.bias, batch.anchors
    dtype = torch.promote_types(features.dtype, weight.dtype)
    dtype = autocast_dtype(features.device) or dtype
    if anchors.dtype == torch.float64:
        dtype = torch.float64
    features, weight = features.to(dtype), weight.to(dtype)
    if features.is_cuda:
        # Channels side by side are what a warp loads at once. Once, not chunk by chunk.
        features = features.contiguous(memory_format=torch.channels_last)
    exact = compute_dtype(features)
    others_wanted = may_need_gradient(anchors) or (bias is not None and may_need_gradient(bias))
    exponential, numbers = flat(rho, pairs)
    arguments = FeatureSumsArguments(
        features=features,
        weight=weight,
        bias=None if bias is None else bias.to(dtype),
        anchors=anchors.to(exact),
        order=batch.order,
        positives=relations.positives,
        self_index=relations.self_index,
        mask=relations.mask,
        lam=lam.values.to(exact),
        pairs=pairs,
        one_mix_per_pair=lam.one_mix_per_pair,
        average=head.pool == "avg+max",
        exponential=exponential,
        rho=numbers,
        workspace=default_workspace(features.device) if workspace is None else workspace,
        wanted=[may_need_gradient(features), may_need_gradient(weight), others_wanted],
    )
    sums, nonzero = feature_sums(arguments)
    return sums.to(anchors.dtype), nonzero
