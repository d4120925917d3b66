"""The definitions, in plain PyTorch, to read next to the paper and to test everything else against.

``clean_loss`` and ``mixed_loss`` are Eq. (7), (9) and (10) to the letter: they form every mixed embedding of every
anchor. The functions named as the ops define those: the reduction over the Gram matrix with all m n^2 terms in memory,
lambda of a pair, pooled mixes of feature maps, sums over listed mixes. All are differentiable, on any device, in any
floating-point type.
"""

from .lambdas import pair_lambda, philox
from .losses import candidate_sets, clean_loss, mixed_loss, mixing_pairs
from .ops import anchor_sums, mix_pool, pair_sums
from .sums import both_sums, log_sum, weighted_sum

__all__ = [
    "anchor_sums",
    "both_sums",
    "candidate_sets",
    "clean_loss",
    "log_sum",
    "mix_pool",
    "mixed_loss",
    "mixing_pairs",
    "pair_lambda",
    "pair_sums",
    "philox",
    "weighted_sum",
]
