"""Recall@K of a trained network on a part of its data set: python train/evaluate.py RUN"""

import runpy
import sys
from pathlib import Path

runpy.run_path(str(Path(__file__).with_name("script.py")))["enter"](globals())

if __name__ == "__main__":
    from train.commands import main

    sys.exit(main("evaluate"))
