"""python -m bench.report"""

import sys

from .readme import main

if __name__ == "__main__":
    sys.exit(main())
