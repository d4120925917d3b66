"""Who is positive and who is negative for whom, in the form that every backend reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Relations:
    """P(a) and N(a) of m anchors among n examples that are sorted by class.

    Attributes:
        positives: [m, 2] int64, the first and one past the last column of the anchor's class.
        self_index: [m] int64, the anchor's own column, or -1 if it is none of the examples.
        mask: [m, n] int8 or None. 1 positive, -1 negative, 0 neither; where given it replaces the ranges.
        anchors_in_order: anchor a is known to be example a, so that a range of positives is also that of its anchors.
    """

    positives: Tensor
    self_index: Tensor
    mask: Tensor | None = None
    anchors_in_order: bool = False

    @classmethod
    def from_labels(cls, anchor_labels: Tensor, sorted_labels: Tensor, self_index: Tensor) -> Relations:
        """P(a): the anchor's label, itself left out. N(a): any other label. No device synchronisation."""
        anchor_labels = anchor_labels.contiguous()
        begin = torch.searchsorted(sorted_labels, anchor_labels)
        end = torch.searchsorted(sorted_labels, anchor_labels, right=True)
        return cls(torch.stack((begin, end), dim=1), self_index)

    def dense(self, examples: int) -> Tensor:
        """The mask [m, n], built from the ranges if there is none."""
        if self.mask is not None:
            return self.mask
        column = torch.arange(examples, device=self.positives.device)
        same_class = (self.positives[:, :1] <= column) & (column < self.positives[:, 1:])
        mask = same_class.to(torch.int8) * 2 - 1
        return mask.masked_fill(column == self.self_index[:, None], 0)

    def anchors_by_class(self, examples: int) -> tuple[Tensor, Tensor]:
        """The anchors of every example's class, where there is no mask.

        Returns:
            [m], the anchors sorted by class, and [n, 2], of every example the first and one past the last of its class
            among them. Anchors of a class without examples may be in the range of another.
        """
        begins, order = self.positives[:, 0].sort(stable=True)
        column = torch.arange(examples, device=begins.device)
        end = torch.searchsorted(begins, column, right=True)
        padded = torch.cat((begins.new_full((1,), -1), begins))  # padded[end] is the begin of the example's class
        first = torch.searchsorted(begins, padded[end])
        return order, torch.stack((first, end), dim=1)

    def of_rows(self, rows: slice | Tensor) -> Relations:
        """Of some of the anchors."""
        return Relations(self.positives[rows], self.self_index[rows], None if self.mask is None else self.mask[rows])

    def of_columns(self, columns: Tensor) -> Relations:
        """Of some of the examples, given in ascending order."""
        place = torch.searchsorted(columns, self.self_index)
        place = place.masked_fill(~torch.isin(self.self_index, columns), -1)
        mask = None if self.mask is None else self.mask.index_select(1, columns)
        return Relations(torch.searchsorted(columns, self.positives), place, mask)

    def keep_pairs(self, mask: Tensor) -> Relations:
        """The same anchors with exactly the positives and negatives of a mask [m, n]."""
        column = torch.arange(mask.shape[1], device=mask.device)
        return Relations(self.positives, self.self_index, mask.masked_fill(column == self.self_index[:, None], 0))

    def sizes(self, examples: int) -> tuple[Tensor, Tensor]:
        """|P(a)| and |N(a)|, int64 [m] each."""
        if self.mask is not None:
            return (self.mask == 1).sum(1), (self.mask == -1).sum(1)
        same_class = self.positives[:, 1] - self.positives[:, 0]
        return same_class - (self.self_index >= 0).long(), examples - same_class
