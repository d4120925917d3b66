"""The tests. Imported before any of them, and before torch."""

import os

# Threads that wait sleep instead of turning: beside a second worker, turning would keep a core from those that work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
