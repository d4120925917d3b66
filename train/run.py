"""Train an embedding and measure Recall@K on unseen classes: python train/run.py --loss ms --mix feature"""

import runpy
import sys
from pathlib import Path

runpy.run_path(str(Path(__file__).with_name("script.py")))["enter"](globals())

if __name__ == "__main__":
    from train.main import main

    sys.exit(main())
