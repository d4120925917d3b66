"""Ways to do a problem, one a file; each gives the loss of embeddings or feature maps, or Recall@K, as a function."""
