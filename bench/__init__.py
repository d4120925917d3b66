"""What the kernels bring, measured: ``python -m bench --help``, ``python -m bench.gpu --help``."""
