"""`python -m unproxy` is the same as `unproxy`."""

import sys
from pathlib import Path

# Python puts the current folder first in sys.path, so a psutil.py there would be imported. Remove the folder, unless it
# contains this package.
if not sys.flags.safe_path and Path(sys.path[0]) != Path(__file__).parents[1]:
    del sys.path[0]

from unproxy.cli import main

if __name__ == "__main__":
    main()
