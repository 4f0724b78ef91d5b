"""``python -m partwise``: the command line, where no script of that name is at hand."""

import sys

from partwise.cli import main

if __name__ == "__main__":  # pragma: no branch  # it is run, and never imported
    sys.exit(main())
