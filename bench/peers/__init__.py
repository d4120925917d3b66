"""Ways to compute the mixed loss of multi-similarity, one a file; each gives the loss of embeddings as a function."""
