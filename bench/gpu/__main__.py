"""python -m bench.gpu"""

import sys

from .session import main

if __name__ == "__main__":  # processes of their own import this file under another name
    sys.exit(main())
