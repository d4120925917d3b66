"""Recall@K, MAP@R and R-precision of a large test set: seconds and peak memory beside other packages.

python -m bench.retrieval           the size of SOP's test half, an hour at most on 2 cores
python -m bench.retrieval --quick   3,000 images

Embeddings are random around a centre per class. Every peer runs in a process of its own, one after the other, several
times in turn: the medians are shown. What it loads is loaded by a small set before. CPU seconds are the sum over the
threads, which other programs on the machine disturb less. Memory is what the search adds at most to what the process
holds with the embeddings in it. Figures have to agree: the command fails if two peers differ by more than 0.001.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import metrix_ext as mx

from .report.tables import number, table
from .timing import environment
from .timing.isolate import Failed, Report, Unavailable, run
from .timing.measure import PeakMemory

KS = (1, 10, 100, 1000)
DEEP = tuple(f"R@{k}" for k in KS)
PRECISE = ("R@1", "MAP@R", "R-precision")
AGREE = 1e-3  # searches round similarities differently, so that close neighbours may change places
Figures = dict[str, float]
Peer = Callable[[Tensor, Tensor, int], Figures]  # embeddings, labels, threads


@dataclass(frozen=True)
class UnseenImages:
    """n embeddings of size d; every class has 2 images, the others belong to any."""

    n: int
    classes: int
    d: int = 512

    def make(self) -> tuple[Tensor, Tensor]:
        """Embeddings [n, d] of unit norm and labels [n], class by class."""
        generator = torch.Generator().manual_seed(0)
        rest = torch.randint(self.classes, (self.n - 2 * self.classes,), generator=generator)
        labels = torch.cat([torch.arange(self.classes).repeat(2), rest]).sort().values
        x = 2.3 * torch.randn(self.n, self.d, generator=generator)
        x += torch.randn(self.classes, self.d, generator=generator)[labels]
        return torch.nn.functional.normalize(x), labels


SOP, QUICK, WARM_UP = UnseenImages(60_502, 11_316), UnseenImages(3_000, 550), UnseenImages(1_200, 220, 64)


@dataclass(frozen=True)
class Measured:
    figures: Figures
    seconds: float
    cpu_seconds: float
    mib: float


Found = dict[str, Measured | str]  # by peer; why it has no figures, if it has none


def ours_deep(x: Tensor, labels: Tensor, threads: int) -> Figures:
    return {f"R@{k}": recall for k, recall in mx.retrieval.recall_at_k(x, labels, KS).items()}


def ours_precise(x: Tensor, labels: Tensor, threads: int) -> Figures:
    found = mx.retrieval.measures(x, labels, k=1)
    return {"R@1": found["recall_at_k"][1], "MAP@R": found["map_at_r"], "R-precision": found["r_precision"]}


def faiss_deep(x: Tensor, labels: Tensor, threads: int) -> Figures:
    right = faiss_search(x, labels, max(KS), threads)
    return {f"R@{k}": right[:, :k].any(1).float().mean().item() for k in KS}


def faiss_precise(x: Tensor, labels: Tensor, threads: int) -> Figures:
    """The definitions of Musgrave et al., on the neighbours of faiss."""
    r = labels.bincount()[labels, None] - 1
    right = faiss_search(x, labels, int(r.max()), threads)
    ranks = torch.arange(1, right.shape[1] + 1)
    counted = right & (ranks <= r)
    average = (counted * counted.cumsum(1) / ranks).sum(1) / r[:, 0]
    precision = counted.sum(1) / r[:, 0]
    figures = zip(PRECISE, (right[:, 0].float(), average, precision), strict=True)
    return {name: values.mean().item() for name, values in figures}


def faiss_search(x: Tensor, labels: Tensor, k: int, threads: int) -> Tensor:
    """[n, k] whether each of the k nearest has the class of the query, which is left out by its index."""
    try:
        import faiss
    except ImportError as error:
        raise Unavailable(str(error)) from None
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(x.shape[1])
    index.add(x.numpy())
    found = torch.from_numpy(index.search(x.numpy(), k + 1)[1])
    itself = found == torch.arange(len(x))[:, None]
    itself[~itself.any(1), -1] = True  # of more than k exact duplicates
    others = found[~itself].view(len(x), k)
    return labels[others] == labels[:, None]


def pml_precise(x: Tensor, labels: Tensor, threads: int) -> Figures:
    """AccuracyCalculator as it is by default: neighbours by faiss."""
    try:
        import faiss
        from pytorch_metric_learning.utils.inference import FaissKNN
    except ImportError as error:
        raise Unavailable(str(error)) from None
    faiss.omp_set_num_threads(threads)
    return accuracy_calculator(FaissKNN(), x, labels)


def pml_own_search(x: Tensor, labels: Tensor, threads: int) -> Figures:
    """AccuracyCalculator with the package's own search, in batches."""
    try:
        from pytorch_metric_learning.distances import CosineSimilarity
        from pytorch_metric_learning.utils.inference import CustomKNN
    except ImportError as error:
        raise Unavailable(str(error)) from None
    return accuracy_calculator(CustomKNN(CosineSimilarity(), batch_size=256), x, labels)


def accuracy_calculator(search: Callable[..., object], x: Tensor, labels: Tensor) -> Figures:
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    names = ("precision_at_1", "mean_average_precision_at_r", "r_precision")
    calculator = AccuracyCalculator(include=names, k="max_bin_count", knn_func=search, device=torch.device("cpu"))
    found = calculator.get_accuracy(x, labels)
    return {ours: float(found[theirs]) for ours, theirs in zip(PRECISE, names, strict=True)}


TASKS: dict[tuple[str, ...], dict[str, Peer]] = {
    PRECISE: {
        "metrix_ext, measures": ours_precise,
        "faiss, IndexFlatIP": faiss_precise,
        "pytorch-metric-learning, faiss": pml_precise,
        "pytorch-metric-learning, own search": pml_own_search,
    },
    DEEP: {"metrix_ext, recall_at_k": ours_deep, "faiss, IndexFlatIP": faiss_deep},
}


def measure(report: Report, task: tuple[str, ...], peer: str, data: UnseenImages, threads: int) -> Measured:
    """One peer, in this process."""
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))  # of what is not loaded yet
    torch.set_num_threads(threads)
    work = TASKS[task][peer]
    report("loading")
    work(*WARM_UP.make(), threads)
    x, labels = data.make()
    report("search")
    with PeakMemory(torch.device("cpu")) as memory:
        begin, cpu_begin = time.perf_counter(), time.process_time()
        figures = work(x, labels, threads)
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
    return Measured(figures, seconds, cpu_seconds, memory.mib)


def compare(task: tuple[str, ...], data: UnseenImages, threads: int, rounds: int, limit: float) -> Found:
    """Every peer of a task with its medians, or why it has none; the peers take turns."""
    runs: dict[str, list[Measured]] = {peer: [] for peer in TASKS[task]}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for peer in (name for name in runs if name not in failed):
            try:
                runs[peer].append(run(measure, task, peer, data, threads, seconds=limit))
            except Failed as failure:
                failed[peer] = str(failure)
    return {peer: failed.get(peer) or middle(found) for peer, found in runs.items()}


def middle(runs: list[Measured]) -> Measured:
    """The medians; the figures are the same each time."""
    seconds, cpu_seconds, mib = (
        statistics.median(getattr(one, name) for one in runs) for name in ("seconds", "cpu_seconds", "mib")
    )
    return Measured(runs[0].figures, seconds, cpu_seconds, mib)


def lines(task: tuple[str, ...], found: Found) -> list[str]:
    """A table in Markdown."""
    rows = [["", *task, "seconds", "CPU seconds", "MiB"]]
    for peer, one in found.items():
        if isinstance(one, str):
            rows.append([peer, one, *[""] * (len(task) + 2)])
        else:
            figures = [f"{100 * one.figures[name]:.2f}" for name in task]
            rows.append([peer, *figures, number(one.seconds), number(one.cpu_seconds), number(one.mib)])
    return table(rows)


def disagreements(task: tuple[str, ...], found: Found) -> list[str]:
    measured = [one.figures for one in found.values() if isinstance(one, Measured)]
    spread = {name: [figures[name] for figures in measured] for name in task}
    return [name for name, values in spread.items() if values and max(values) - min(values) > AGREE]


def main(arguments: list[str] | None = None) -> int:
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        "python -m bench.retrieval",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="3,000 images instead of 60,502")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="runs of every peer, of which the median counts")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for one peer")
    given = parser.parse_args(arguments)
    data = QUICK if given.quick else SOP
    versions = environment.describe(torch.device("cpu"))
    print(f"{versions['device']}, {given.threads} threads; {versions['versions']}; {versions['commit']}")
    print(f"{data.n:,} images of {data.classes:,} classes, d = {data.d}", flush=True)
    wrong = []
    for task in TASKS:
        found = compare(task, data, given.threads, given.rounds, given.limit)
        print("\n".join(["", *lines(task, found)]), flush=True)
        wrong += disagreements(task, found)
    if wrong:
        print(f"the peers disagree on {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
