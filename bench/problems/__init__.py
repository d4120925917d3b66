"""What the cases compute: the inputs of a problem, and what it must do at least."""
