"""A batch in the order that the kernels read, whole or in chunks."""
