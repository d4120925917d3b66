"""Embeddings of a folder of images by a trained network: python train/embed.py RUN IMAGES --out FILE.npz"""

import runpy
import sys
from pathlib import Path

runpy.run_path(str(Path(__file__).with_name("script.py")))["enter"](globals())

if __name__ == "__main__":
    from train.commands import main

    sys.exit(main("embed"))
