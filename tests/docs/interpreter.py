"""Runs Python code block after block in one namespace, in a process of its own, since imports cannot be undone.

Each line on standard input is JSON with `source`, `path` and `line`; each is answered with a line of JSON that holds
the traceback, or null.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any


def main() -> None:
    """Answers until the input ends."""
    sys.path.insert(0, str(Path.cwd()))
    namespace: dict[str, Any] = {"__name__": "page"}
    # What the blocks print must not get into the answers.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            print(json.dumps(run(namespace, **json.loads(line))), file=answers, flush=True)


def run(namespace: dict[str, Any], source: str, path: str, line: int) -> str | None:
    """Runs one block; gives the traceback of what it raised, with the lines of the page."""
    try:
        exec(compile("\n" * line + source, path, "exec"), namespace)
    except Exception:
        return traceback.format_exc()
    return None


if __name__ == "__main__":
    main()
