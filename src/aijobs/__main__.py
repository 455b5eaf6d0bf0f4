"""`python -m aijobs`, the same as the command `aijobs`."""

from __future__ import annotations

import sys

from aijobs.cli import main

if __name__ == "__main__":
    sys.exit(main())
