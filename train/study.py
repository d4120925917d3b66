"""Many short training runs and what they say together: python train/study.py GRID.toml --out DIR"""

import runpy
import sys
from pathlib import Path

runpy.run_path(str(Path(__file__).with_name("script.py")))["enter"](globals())

if __name__ == "__main__":
    from train.commands import main

    sys.exit(main("study"))
