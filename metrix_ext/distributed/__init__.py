"""Losses of the batches of several processes as if they were one batch."""

from .global_batch import GlobalBatch

__all__ = ["GlobalBatch"]
