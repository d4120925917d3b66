"""Every op of the package, with the problems that it is checked on; what is checked is in op_checks.py."""

from tests.support.ops.anchor_sums import ANCHOR_SUMS
from tests.support.ops.feature_sums import FEATURE_SUMS
from tests.support.ops.mix_pool import MIX_POOL
from tests.support.ops.pair_sums import PAIR_SUMS
from tests.support.ops.small_ops import CLASS_ORDER, GRAM, MEAN_LOSS, PAIR_LAMBDA, PRODUCT, UNIT_ROWS

SMALL_OPS = (GRAM, PRODUCT, UNIT_ROWS, CLASS_ORDER, PAIR_LAMBDA, MEAN_LOSS)
OPS = (PAIR_SUMS, ANCHOR_SUMS, MIX_POOL, FEATURE_SUMS, *SMALL_OPS)
