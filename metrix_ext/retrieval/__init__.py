"""Retrieval measures: Recall@K, MAP@R, R-precision, NMI; nearest neighbours, utilization. Exact, on any device.

Queries are taken in chunks, so that memory is bounded: a chunk's similarities have at most 2^24 entries. On a CPU the
similarities of a set with itself are computed whole where they fit 1 GiB: that is half the work, as they are symmetric.
Half-precision embeddings are compared in fp32, fp64 ones in fp64; autocast, TF32 and the bf16 modes of fp32 matrix
products are switched off meanwhile, since they reorder neighbours.
"""

from .clustering import nmi
from .measures import measures
from .neighbours import nearest
from .precision import map_at_r, r_precision
from .recall import recall_at_k
from .utilization import utilization

__all__ = ["map_at_r", "measures", "nearest", "nmi", "r_precision", "recall_at_k", "utilization"]
