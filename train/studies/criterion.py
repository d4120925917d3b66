"""The loss of a setting: clean, with mixing, or with the same second term of the examples themselves."""

from __future__ import annotations

import copy
from dataclasses import replace

from torch import Tensor, nn

import metrix_ext as mx
from metrix_ext.losses import TableLoss
from metrix_ext.mixing.arguments import STRENGTH

from ..training.criterion import make_loss
from .setting import Setting


class Unmixed(nn.Module):
    """l + w l', where l' has the formula of the mixed term, and its margins at the labels 1 and 0."""

    def __init__(self, loss: TableLoss, second: TableLoss, strength: float) -> None:
        super().__init__()
        self.loss, self.second, self.strength = loss, second, strength

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return self.loss(embeddings, labels) + self.strength * self.second(embeddings, labels)

    def terms(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return self.loss(embeddings, labels), self.second(embeddings, labels)


def of_setting(setting: Setting, classes: int) -> tuple[TableLoss, nn.Module]:
    """The clean loss, and what is minimised, which is the same module if there is no second term."""
    loss = make_loss(setting.loss, setting.loss_options, classes, setting.embedding_size)
    other = None
    if setting.mixed_loss is not None:
        other = make_loss(setting.mixed_loss, setting.mixed_loss_options, classes, setting.embedding_size)
    if setting.control == "unmixed":
        strength = STRENGTH["pos-neg"] if setting.strength is None else float(setting.strength)
        return loss, Unmixed(loss, _second(loss, other, setting), strength)
    if setting.mix == "none":
        return loss, loss
    criterion = mx.Metrix(
        loss, mix=setting.mix, pairs=setting.pairs, alpha=setting.alpha, strength=setting.strength, lam=setting.lam,
        renormalize=setting.renormalize, hard_negatives=setting.hard_negatives, mixed_margins=setting.mixed_margins,
        mixed_loss=other, gradient_share=setting.gradient_share,
    )  # fmt: skip
    return loss, criterion


def _second(loss: TableLoss, other: TableLoss | None, setting: Setting) -> TableLoss:
    second = copy.copy(loss) if other is None else other
    if loss.anchors == "proxies" or loss.candidates == "proxies":
        second.proxies = loss.proxies
    rho = second.formula.with_margins(setting.mixed_margins).rho
    second.formula = replace(second.formula, rho=(rho[0].at_label(1.0), rho[1].at_label(0.0)))
    return second
