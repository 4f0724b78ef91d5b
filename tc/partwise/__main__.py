"""``python -m partwise``: the command line without its script."""

import sys

from partwise.cli import main

if __name__ == "__main__":  # pragma: no branch  # never imported
    sys.exit(main())
