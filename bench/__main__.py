"""What the kernels bring: speed and memory against other ways to compute the same, checked before they are timed.

python -m bench                     all cases; results go to bench/results/<device>
python -m bench --quick             small sizes, under two minutes on 2 cores; nothing is written
python -m bench pair-sums feature   some cases
python -m bench.report              README's table from the results
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from .cases import feature, memory, pair_sums, recall, scaling, step
from .problems.problem import Problem
from .report import readme, results, tables
from .report.rows import Row
from .runner import Budget, Runner
from .timing import environment, work
from .timing.isolate import Failed, run

CASES = {
    "pair-sums": pair_sums.run,
    "feature": feature.run,
    "step": step.run,
    "memory": memory.run,
    "recall": recall.run,
    "scaling": scaling.run,
}
PROBLEMS: tuple[type[Problem], ...] = (pair_sums.PairSums, feature.Feature, step.TrainingStep, recall.Recall)
PEERS = tuple(dict.fromkeys(peer for problem in PROBLEMS for peer in problem.peers))
QUICK_PEERS = (
    "metrix_ext",
    "reference",
    "gram",
    "gathered",
    "materialised",
    "torch",
    "pml",
)  # without those that compile
DEFAULTS = {  # rounds, seconds, limit
    False: (15, 20.0, 900.0),
    True: (5, 1.0, 20.0),
}
SHARE_OF_MEMORY = 0.5


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    summary, _, commands = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=summary,
        epilog=commands,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes, without peers that have to be compiled")
    parser.add_argument("--device", default=None, help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--peers", default=None, help=f"comma-separated, of {', '.join(PEERS)}")
    parser.add_argument("--out", type=Path, default=None, help="folder of the results")
    parser.add_argument("--rounds", type=int, default=None, help="timed rounds at most")
    parser.add_argument("--seconds", type=float, default=None, help="of timing a problem's peers side by side")
    parser.add_argument("--limit", type=float, default=None, help="seconds for one peer with one problem")
    given = parser.parse_args(arguments)
    if unknown := [case for case in given.cases if case not in CASES]:
        parser.error(f"CASE: {', '.join(unknown)}: expected some of {', '.join(CASES)}")
    if given.peers is not None:
        given.peers = [name.strip() for name in given.peers.split(",")]
        if unknown := [name for name in given.peers if name not in PEERS]:
            parser.error(f"--peers: {', '.join(unknown)}: expected some of {', '.join(PEERS)}")
    elif given.quick:
        given.peers = list(QUICK_PEERS)
    try:
        given.device = torch.device(given.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        parser.error(f"--device: {error}")
    if given.device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device: PyTorch finds no CUDA device")
    return given


def main(arguments: list[str] | None = None) -> int:
    given = parse(arguments)
    about = environment.describe(given.device)
    print("\n".join(f"{name}: {value}" for name, value in about.items()), flush=True)
    try:
        limits = run(work.limits, str(given.device), seconds=120.0)
    except Failed as failure:
        print(f"the limits of the device could not be measured: {failure}", file=sys.stderr)
        return 1
    print(f"limits, per second: {tables.limits(limits)}\n", flush=True)
    runner = Runner(given.device, limits, _budget(given), given.peers, _say)
    folder = given.out
    if folder is None and not given.quick:
        folder = results.FOLDER / environment.folder_name(given.device)
    for case in given.cases or CASES:
        rows: list[Row] = []
        for row in CASES[case](runner, given.quick):
            rows.append(row)
            if folder is not None:  # after each row: what ends a run takes no earlier result with it
                results.write(folder, results.Result(case, about, limits, rows))
        print("\n".join(tables.case_section(results.Result(case, about, limits, rows))), flush=True)
    if folder is not None:
        readme.write_page(folder)
        print(f"written to {folder}")
    return 0


def _budget(given: argparse.Namespace) -> Budget:
    rounds, seconds, limit = DEFAULTS[given.quick]
    memory = None if given.device.type == "cuda" else int(SHARE_OF_MEMORY * _available_memory())
    return Budget(given.rounds or rounds, given.seconds or seconds, given.limit or limit, memory)


def _available_memory() -> int:
    with open("/proc/meminfo") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("MemAvailable:"))


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
