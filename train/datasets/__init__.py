"""Image data sets for studies, built from packages of artwork: one script per set, `python train/datasets/NAME.py`.

A set is a file for `--dataset npz` and a record beside it. docs/datasets.md shows them; none is part of the project.
"""
