"""Everything a machine with a GPU can say about the kernels, within eight minutes: ``python -m bench.gpu``.

Builds nothing and needs no network. Tests that run on a GPU, what matters most of the benchmark, compute-sanitizer:
each part in processes of its own with a share of the time, so that whatever fails, hangs or is missing is recorded, and
the rest goes on. Everything known so far is on disk after each part. Exit status 0 if nothing failed, 2 without a GPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..cases.feature import Feature
from ..cases.pair_sums import PairSums
from ..cases.step import TrainingStep
from ..problems.problem import ON_GPU, Problem
from ..report import readme, results
from ..report.rows import Row
from ..runner import Budget, Runner
from ..timing import environment, work
from ..timing.isolate import Deadline, Failed, reason, run
from .checks import run_tests, sanitize
from .record import Record

SECONDS = 460.0  # of eight minutes; the rest is for starting processes
TIMING_SECONDS = 4.0  # of a problem's peers side by side

OURS = ("metrix_ext", *ON_GPU)


@dataclass(frozen=True)
class Part:
    """Problems of a case for certain peers, and the seconds that one of these may take with one of those."""

    case: str
    problems: tuple[Problem, ...]
    peers: tuple[str, ...]
    limit: float


BENCHMARK = (
    Part("pair-sums", (PairSums(8192, 32),), ("metrix_ext", "metrix_ext-triton"), 40),
    Part(
        "pair-sums",
        (PairSums(100, 5), PairSums(100, 5, pairs="clean")),
        (*OURS, "gram-compiled", "gathered-compiled"),
        40,
    ),
    Part("pair-sums", (PairSums(512, 8),), (*OURS, "gram-compiled", "gathered-compiled"), 40),
    Part("feature", (Feature(100, 5), Feature(1024, 32)), ("metrix_ext", "materialised"), 45),
    Part(
        "step",
        tuple(TrainingStep(100, 5, 224, mix, dtype="bfloat16") for mix in ("none", "feature")),
        ("metrix_ext",),
        60,
    ),
)


def benchmark(runner: Callable[[float], Runner], parts: Sequence[Part] = BENCHMARK) -> Iterator[Row]:
    """The rows of all parts.

    Args:
        runner: gives what runs a problem, for a number of seconds that one peer may take.
    """
    for part in parts:
        for problem in part.problems:
            try:
                yield from runner(part.limit).compare(part.case, problem, part.peers)
            except Exception as error:  # whatever it is, the rest goes on
                yield Row(case=part.case, peer="all", status=reason(error), **problem.columns())  # type: ignore[arg-type]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=None, help="folder of the results (bench/results/<device>)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for everything (default %(default)s)")
    given = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("python -m bench.gpu: PyTorch finds no GPU here")
        return 2
    deadline = Deadline(given.seconds)
    device = torch.device("cuda")
    folder = given.out or results.FOLDER / environment.folder_name(device)
    record = Record(folder, environment.describe(device))
    record.write()

    record.add_all("tests", run_tests(deadline))
    try:
        limits = run(work.limits, str(device), seconds=deadline.left(60.0))
    except Failed as failure:
        record.add("limits", "measured", {"status": str(failure)})
        limits = {}
    rows: dict[str, list[Row]] = {}
    for row in benchmark(lambda limit: Runner(device, limits, Budget(15, TIMING_SECONDS, limit, None, deadline))):
        rows.setdefault(row.case, []).append(row)
        results.write(folder, results.Result(row.case, record.environment, limits, rows[row.case]))
        print(f"{row.case}, {row.peer}, {row.pairs}, n = {row.n}: {row.status}, {row.time} ms", flush=True)
    record.add("benchmark", "clocks at its end", {"status": "passed", **environment.nvidia_smi(*environment.CLOCKS)})
    record.add_all("sanitizer", sanitize(deadline))
    readme.write_page(folder)
    print(f"written to {folder}")
    return 0 if record.passed else 1
