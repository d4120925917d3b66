"""One file per data set, with `load(path, image_size) -> Collection`; its name and traits stand in ../registry.py."""
