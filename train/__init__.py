"""The training driver: ``python train/run.py`` or ``python -m train.run``."""
