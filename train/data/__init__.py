"""From a data set on disk to batches: registry, sources, splits, transforms, sampler, loaders.

A data set is a file in `sources/` and a line in `registry.py`. This package itself imports nothing, so that the
command line can list the data sets before anything heavy is there.
"""
