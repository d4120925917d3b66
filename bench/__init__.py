"""Throughput comparisons: ``python -m bench --help``."""
