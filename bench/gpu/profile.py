"""Where the time of a step goes on a GPU, kernel by kernel: ``python -m bench.gpu.profile``.

A case is forward and backward of a loss. Its time is the median by events on the stream, eager; where a case can be
captured, that of a replayed graph, too. Kernels are those of one more step under PyTorch's profiler. Everything is
written to kernels.json of the device's folder of results, and a table to kernels.md.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import metrix_ext as mx

from ..cases.feature import Feature
from ..cases.pair_sums import PairSums
from ..peers import ours
from ..report import results
from ..timing import environment

SHOWN = 12  # kernels of a case in the table


@dataclass(frozen=True)
class Kernel:
    """Launches of a name in one step, and their milliseconds together."""

    name: str
    launches: int
    time: float


@dataclass(frozen=True)
class Profile:
    """Of a case: milliseconds eager and in a graph, MiB at the peak beyond what was there, kernels by time."""

    case: str
    eager: float
    graph: float | None
    memory: float
    kernels: list[Kernel]

    @property
    def busy(self) -> float:
        return sum(kernel.time for kernel in self.kernels)


Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A loss of one tensor and what has gradients; several steps are timed."""

    name: str
    make: Callable[[torch.device], tuple[Loss, list[Tensor]]]
    backend: str = "auto"
    in_a_graph: bool = True
    repeats: int = 20


def embed(n: int, k: int, pairs: str = "pos-neg", backend: str = "auto", in_a_graph: bool = True) -> Case:
    """Multi-similarity on embeddings of size 512, clean or mixed and renormalised."""

    def make(device: torch.device) -> tuple[Loss, list[Tensor]]:
        problem = PairSums(n, k, pairs=pairs)
        x = problem.embeddings(device, torch.float32)
        return ours.pair_sums(problem, problem.labels(device)), [x]

    return Case(f"{pairs}, n = {n}, {k} per class, d = 512{_of(backend)}", make, backend, in_a_graph)


def feature(n: int, k: int, backend: str = "auto", in_a_graph: bool = True) -> Case:
    """Feature mixup of maps of 2048 x 7 x 7 in bfloat16, channels last, through a head to 512."""

    def make(device: torch.device) -> tuple[Loss, list[Tensor]]:
        problem = Feature(n, k)
        maps, embeddings, labels, head = problem.inputs(device, torch.bfloat16)
        maps = maps.detach().to(memory_format=torch.channels_last).requires_grad_()
        return ours.feature(problem, embeddings, labels, head), [maps, *head.parameters()]

    return Case(f"feature, n = {n}, {k} per class, bfloat16{_of(backend)}", make, backend, in_a_graph, 10)


def _of(backend: str) -> str:
    return "" if backend == "auto" else f", {backend}"


CASES = (
    embed(100, 5),
    embed(100, 5, "clean"),
    embed(100, 5, "anc-neg"),
    embed(512, 8),
    embed(8192, 32, in_a_graph=False),
    embed(8192, 32, "clean", in_a_graph=False),
    embed(65536, 32, "clean", in_a_graph=False),
    feature(100, 5),
    feature(1024, 32, in_a_graph=False),
    embed(512, 8, backend="triton", in_a_graph=False),
    embed(8192, 32, backend="triton", in_a_graph=False),
    feature(100, 5, backend="triton", in_a_graph=False),
)


def median_time(run: Callable[[], object], repeats: int) -> float:
    """Milliseconds between events around a call."""
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def measure(case: Case, device: torch.device) -> Profile:
    loss, leaves = case.make(device)

    def step() -> None:
        for leaf in leaves:
            leaf.grad = None
        with mx.use_backend(case.backend):
            loss(leaves[0]).backward()

    for _ in range(3):
        step()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    eager = median_time(step, case.repeats)
    memory = (torch.cuda.max_memory_allocated() - before) / 2**20
    found = kernels(step)
    graph = None
    if case.in_a_graph:
        replay = ours.in_a_graph(lambda: loss(leaves[0]), leaves).parts["both"]
        replay()
        graph = median_time(replay, 2 * case.repeats)
    return Profile(case.name, eager, graph, memory, found)


def kernels(step: Callable[[], None]) -> list[Kernel]:
    """Those of a step, the longest first."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize()
    launches: dict[str, list[float]] = {}
    for event in profiler.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            launches.setdefault(event.name, []).append(event.device_time / 1e3)
    found = [Kernel(name, len(times), sum(times)) for name, times in launches.items()]
    return sorted(found, key=lambda kernel: -kernel.time)


def short(name: str) -> str:
    """A kernel's name without its return type, namespaces and arguments."""
    name = re.sub(r"\((?!anonymous).*$", "", name.replace("void ", "").replace("(anonymous namespace)::", ""))
    name = re.sub(r"metrix::cuda::|at::native::|at_cuda_detail::cub::detail::", "", name)
    return name if len(name) <= 72 else name[:69] + "..."


def table(profiles: list[Profile], found: dict[str, object]) -> str:
    lines = [
        f"# Kernel by kernel on {found['device']}",
        "",
        f"{found['date']}, {found['versions']}, {found['gpu']}.",
        "",
    ]
    lines += ["| case | eager, ms | in a graph, ms | kernels | busy, ms | MiB |", "|---|---|---|---|---|---|"]
    for one in profiles:
        graph = "" if one.graph is None else f"{one.graph:.3f}"
        count = sum(kernel.launches for kernel in one.kernels)
        lines.append(f"| {one.case} | {one.eager:.3f} | {graph} | {count} | {one.busy:.3f} | {one.memory:.0f} |")
    for one in profiles:
        lines += ["", f"## {one.case}", "", "| kernel | launches | ms |", "|---|---|---|"]
        lines += [f"| `{short(k.name)}` | {k.launches} | {k.time:.4f} |" for k in one.kernels[:SHOWN]]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.profile", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=None, help="folder of the results (bench/results/<device>)")
    parser.add_argument("cases", nargs="*", help="only cases whose names contain one of these")
    given = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("python -m bench.gpu.profile: PyTorch finds no GPU here")
        return 2
    device = torch.device("cuda")
    folder = given.out or results.FOLDER / environment.folder_name(device)
    found = environment.describe(device)
    profiles: list[Profile] = []
    failed = 0
    for case in CASES:
        if given.cases and not any(word in case.name for word in given.cases):
            continue
        try:
            profiles.append(measure(case, device))
            one = profiles[-1]
            print(f"{one.case}: {one.eager:.3f} ms, in a graph {one.graph}, busy {one.busy:.3f} ms", flush=True)
        except Exception as error:  # whatever it is, the other cases go on
            failed += 1
            print(f"{case.name}: {type(error).__name__}: {str(error)[:300]}", flush=True)
        torch.cuda.empty_cache()
        folder.mkdir(parents=True, exist_ok=True)
        content = {"environment": found, "profiles": [asdict(one) for one in profiles]}
        (folder / "kernels.json").write_text(json.dumps(content, indent=1) + "\n")
        (folder / "kernels.md").write_text(table(profiles, found))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
