"""What is minimised: a loss of Table 1 by name, alone or with mixup around it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

import metrix_ext as mx

from ..errors import UserError
from ..model.network import EmbeddingModel
from ..options import mixing_options

PLAIN = {
    "contrastive": mx.losses.ContrastiveLoss,
    "lifted": mx.losses.LiftedStructureLoss,
    "binomial": mx.losses.BinomialDevianceLoss,
    "ms": mx.losses.MultiSimilarityLoss,
    "nca": mx.losses.NCALoss,
}
WITH_PROXIES = {
    "pa": mx.losses.ProxyAnchorLoss,
    "proxynca": mx.losses.ProxyNCALoss,
    "proxynca++": mx.losses.ProxyNCAPlusPlusLoss,
}
# The sums of Eq. (1) grow with the batch, and with them the step that one learning rate means.
DEFAULT_OPTIONS: dict[str, dict[str, Any]] = {"contrastive": {"aggregate": "mean-nonzero"}}


def make_criterion(args: argparse.Namespace, num_classes: int) -> tuple[nn.Module, nn.Module]:
    """The clean loss, and what is minimised: mixup around it, or the loss itself."""

    def of(name: str, options: Sequence[tuple[str, Any]]) -> nn.Module:
        return make_loss(name, dict(options), num_classes, args.embedding_size, args.normalize)

    loss = of(args.loss, args.loss_option)
    if not args.mix:
        return loss, loss
    mixing = mixing_options(args)
    if args.mixed_loss is not None:
        mixing["mixed_loss"] = of(args.mixed_loss, args.mixed_loss_option)
    return loss, with_mixup(loss, args.mix, mixing)


def make_loss(
    name: str, options: Mapping[str, Any], num_classes: int, embedding_size: int, normalize: bool = True
) -> nn.Module:
    keywords = {**DEFAULT_OPTIONS.get(name, {}), "normalize": normalize, **options}
    try:
        if name in PLAIN:
            return PLAIN[name](**keywords)
        return WITH_PROXIES[name](num_classes, embedding_size, **keywords)
    except (TypeError, ValueError) as error:
        raise UserError(f"--loss {name} does not take these options: {error}") from None


def with_mixup(loss: nn.Module, mix: Sequence[str], options: Mapping[str, Any]) -> nn.Module:
    try:
        return mx.Metrix(loss, mix=tuple(mix) if len(mix) > 1 else mix[0], **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"--mix {','.join(mix)} cannot be done with these options: {error}") from None


def mixing_arguments(mix: Sequence[str], model: EmbeddingModel, images: Tensor, features: Tensor) -> dict[str, Any]:
    """`source` and `encode` for each kind of mixup: what is mixed, and what makes embeddings of it."""
    source = {"input": images, "feature": features}
    encode = {"input": model, "feature": model.head}
    used = [kind for kind in mix if kind in source]
    if len(mix) > 1:
        return {"source": {k: source[k] for k in used}, "encode": {k: encode[k] for k in used}}
    return {"source": source[used[0]], "encode": encode[used[0]]} if used else {}
