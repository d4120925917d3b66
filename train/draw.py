"""A data set drawn from packages of icons or fonts: python train/draw.py SET --out FILE.npz"""

import runpy
import sys
from pathlib import Path

runpy.run_path(str(Path(__file__).with_name("script.py")))["enter"](globals())

if __name__ == "__main__":
    from train.datasets.command import main

    sys.exit(main())
