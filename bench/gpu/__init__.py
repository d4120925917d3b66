"""What a machine with a GPU can say about the kernels: ``python -m bench.gpu``."""
