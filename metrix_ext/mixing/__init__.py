"""The sums of Eq. (9) for each thing that is mixed: embeddings, feature maps, anything encoded."""
