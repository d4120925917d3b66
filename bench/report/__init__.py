"""Results on disk, as tables and as pictures: ``python -m bench.report``."""
