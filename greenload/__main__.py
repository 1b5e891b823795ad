"""``python -m greenload``: the command line where no script is installed."""

import sys

from greenload.cli import main

if __name__ == "__main__":
    sys.exit(main())
