"""Side-by-side timing of the mixed loss, forward and backward, on the CPU.

python -m bench                 the two standard cases, and the memory of a batch of 4,096
python -m bench --n 512 --k 8   another one
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from dataclasses import asdict

import torch

import metrix_ext as mx
from metrix_ext import native

from .measure import TOLERANCE, device_name, error, loss_and_gradient, peak_memory, time_side_by_side
from .peers import PEERS, Case, literal, ours

STANDARD = (Case(100, 5), Case(256, 8))
LITERAL_UP_TO = 256  # the literal version takes minutes beyond


def compare(case: Case, names: list[str], rounds: int) -> dict[str, dict[str, float]]:
    """Times of the named peers on one case; without a time where the result is wrong."""
    exact = loss_and_gradient(literal(case), *case.inputs("cpu", torch.float64))
    inputs = case.inputs("cpu")
    rows: dict[str, dict[str, float]] = {}
    runs = {}
    for name in names:
        step = PEERS[name](case)
        rows[name] = {"error": error(loss_and_gradient(step, *inputs), exact)}
        if rows[name]["error"] < TOLERANCE:
            runs[name] = lambda step=step: loss_and_gradient(step, *inputs)
    for name, timing in time_side_by_side(runs, rounds).items():
        rows[name] |= asdict(timing)
    return rows


def extra_memory(case: Case) -> float:
    """MiB that forward and backward add to a process that holds only the inputs."""
    embeddings, labels = case.embeddings("cpu"), case.labels("cpu")
    loss_and_gradient(ours(Case(16, 4)), *Case(16, 4).inputs("cpu"))
    before = peak_memory()
    loss_and_gradient(ours(case), embeddings, labels, torch.empty(0))
    return (peak_memory() - before) / 2**20


def table(case: Case, rows: dict[str, dict[str, float]]) -> str:
    lines = [f"n = {case.n}, {case.k} per class, d = {case.d}, {case.pairs}, renormalised", ""]
    lines += ["| | ms, median | 20 to 80 % | times ours | relative error |", "|---|---|---|---|---|"]
    own = rows["metrix_ext"].get("median", float("nan"))
    for name, row in rows.items():
        if "median" not in row:
            lines.append(f"| {name} | wrong result | | | {row['error']:.0e} |")
            continue
        spread = f"{row['low']:.2f} to {row['high']:.2f}"
        lines.append(f"| {name} | {row['median']:.2f} | {spread} | {row['median'] / own:.0f} | {row['error']:.0e} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, help="batch size, instead of the standard cases")
    parser.add_argument("--k", type=int, default=8, help="examples per class (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds (default %(default)s)")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated (default %(default)s)")
    parser.add_argument("--memory", type=int, default=4096, help="batch size of the memory case, 0 for none")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there too")
    arguments = parser.parse_args()
    names = [name.strip() for name in arguments.peers.split(",")]
    if unknown := [name for name in names if name not in PEERS]:
        parser.error(f"--peers: {', '.join(unknown)}: expected some of {', '.join(PEERS)}")
    if "metrix_ext" not in names:
        names.insert(0, "metrix_ext")
    if failure := native.failure():
        parser.error(failure)

    result: dict[str, object] = {
        "device": device_name(),
        "instruction_set": native.lib().instruction_set(),
        "metrix_ext": mx.__version__,
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
    }
    print("\n".join(f"{name}: {value}" for name, value in result.items()) + "\n", flush=True)
    if arguments.memory:
        # First, since the peak of the process is what is measured.
        case = Case(arguments.memory, 8)
        result["extra_memory_mib"] = {case.n: extra_memory(case)}
        print(f"n = {case.n}, 8 per class: {result['extra_memory_mib'][case.n]:.0f} MiB of extra memory\n", flush=True)
    result["cases"] = []
    for case in STANDARD if arguments.n is None else (Case(arguments.n, arguments.k),):
        chosen = [name for name in names if name != "literal" or case.n <= LITERAL_UP_TO]
        rows = compare(case, chosen, arguments.rounds)
        result["cases"].append({"case": asdict(case), "rows": rows})
        print(table(case, rows), flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(result, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
