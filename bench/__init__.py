"""What the kernels bring, measured: ``python -m bench --help``, ``python -m bench.gpu --help``.

Rooms, each of which imports only from those below it:

__main__, gpu/   the commands: all cases on this machine; tests, cases and compute-sanitizer on a GPU
cases/           what is measured: a problem, the peers that do it, and how exact they have to be
runner           checks, meters and times the peers of a problem; gives a row for each
peers/           ways to do a problem: metrix_ext, plain PyTorch, other packages
report/          rows and results on disk, as tables, as plots and in README
timing/          time, memory and kernels of a step, in a process of its own with limits
problems/        sizes and inputs of a problem
counts           what a problem must do at least: exponentials, multiply-adds, bytes
results/         what was measured, a folder per device

``python -m bench.negligible``, ``bench.products`` and ``bench.retrieval`` stand alone.
"""
