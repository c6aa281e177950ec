"""`python -m richhf.cli`."""

import sys

from richhf.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
