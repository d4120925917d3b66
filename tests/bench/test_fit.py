"""Growth of time and memory with the batch."""

from __future__ import annotations

import pytest

from bench.report import fit
from bench.report.rows import Row


def test_exponent_of_a_power_law() -> None:
    assert fit.exponent([64, 256, 1024], [3e-4 * n**2.5 for n in (64, 256, 1024)]) == pytest.approx(2.5)
    assert fit.exponent([64, 256], [1.0, None]) is None
    assert fit.exponent([64, 64], [1.0, 2.0]) is None


def test_growth_is_of_the_largest_sizes_and_says_what_ended_it() -> None:
    # Calls cost 5 ms whatever the size: over all sizes the exponent would be well below 2.
    rows = [
        Row("scaling", "gram", n=n, pairs="clean", both=5 + 1e-6 * n**2, memory_mib=n / 1e3)
        for n in (64, 1024, 16384, 65536, 262144)
    ]
    rows.append(Row("scaling", "gram", "out of memory in forward", n=1048576, pairs="clean"))
    (found,) = fit.growth(rows)
    assert found.time == pytest.approx(2.0, abs=0.01) and found.memory == pytest.approx(1.0)
    assert (found.smallest, found.largest) == (16384, 262144)
    assert found.ended_by == "out of memory in forward at n = 1,048,576"
