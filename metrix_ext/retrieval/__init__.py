"""Retrieval measures: Recall@K, nearest neighbours, utilization. Exact, in bounded memory, on any device.

Queries are taken in chunks whose similarity block has at most 2^24 entries. On a CPU the similarities of a set
with itself are computed whole where they fit 1 GiB: that is half the work, as they are symmetric. Half-
precision embeddings are compared in fp32, fp64 ones in fp64; autocast, TF32 and the bf16 modes of fp32 matrix
products are switched off meanwhile, since they reorder neighbours.
"""

from .neighbours import nearest
from .recall import recall_at_k
from .utilization import utilization

__all__ = ["nearest", "recall_at_k", "utilization"]
