"""The criteria of this package as losses of pytorch-metric-learning 2.9, for what that library wraps around a loss.

It is imported with this module alone: ``from metrix_ext.pytorch_metric_learning import MetricLossFunction``.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .losses import ProxyLoss, TableLoss
from .metrix import Metrix

try:
    from pytorch_metric_learning.losses import BaseMetricLossFunction
except ImportError as error:
    raise ImportError(
        "pytorch-metric-learning: missing, pip install 'metrix_ext[pytorch-metric-learning]' brings it"
    ) from error


class MetricLossFunction(BaseMetricLossFunction):
    """A loss of metrix_ext.losses, or Metrix of embeddings, as a loss of pytorch-metric-learning.

    Its DistributedLossWrapper, CrossBatchMemory, SelfSupervisedLoss and MultipleLosses take it, and so do its trainers:
    ``CrossBatchMemory(MetricLossFunction(Metrix(loss, mix="embed")), embedding_size=128)``.

    The value is the criterion's, with the pairs of a miner and the references that a wrapper passes on. A loss with
    proxies compares the batch with its proxies alone: pairs and references are left out. With proxy anchors
    ``metrix_ext.memory.CrossBatchMemory`` uses what it remembers, which the one of pytorch-metric-learning cannot.

    Args:
        criterion: what is wrapped.
        embedding_regularizer, embedding_reg_weight: of BaseMetricLossFunction. There is no distance to choose, as
            similarities are cosines, and no reducer, as the value is a mean already.

    Raises:
        TypeError, ValueError: the criterion is none of this package, or mixes images or feature maps, which no wrapper
            passes on.
    """

    def __init__(
        self,
        criterion: TableLoss | Metrix,
        embedding_regularizer: nn.Module | None = None,
        embedding_reg_weight: float = 1,
    ) -> None:
        super().__init__(embedding_regularizer=embedding_regularizer, embedding_reg_weight=embedding_reg_weight)
        if not isinstance(criterion, TableLoss | Metrix):
            raise TypeError(
                f"criterion: got {type(criterion).__name__}, expected a loss of metrix_ext.losses or Metrix"
            )
        if isinstance(criterion, Metrix) and criterion.mix != ("embed",):
            raise ValueError(
                f"criterion: mixes {', '.join(criterion.mix)}, but wrappers pass on embeddings: expected mix='embed'"
            )
        self.criterion = criterion
        self.has_proxies = isinstance(criterion.loss if isinstance(criterion, Metrix) else criterion, ProxyLoss)

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: tuple[Tensor, ...] | None,
        ref_emb: Tensor,
        ref_labels: Tensor,
    ) -> dict[str, dict[str, Any]]:
        """The value in the form that a reducer takes. Where there are no references they are the batch itself."""
        compared: dict[str, Any] = {}
        if not self.has_proxies:
            compared["indices_tuple"] = indices_tuple
            if ref_emb is not embeddings or ref_labels is not labels:
                compared |= {"ref_emb": ref_emb, "ref_labels": ref_labels}
        value = self.criterion(embeddings, labels, **compared)
        return {"loss": {"losses": value, "indices": None, "reduction_type": "already_reduced"}}

    def _get_name(self) -> str:
        return "MetricLossFunction"


# CrossBatchMemory and SelfSupervisedLoss look the name of a loss's class up in lists of their own. This name is in
# both: that loss, too, may be called with references. What is imported, pickled and printed is the other one.
MetricLossFunction.__name__ = "GeneralizedLiftedStructureLoss"
