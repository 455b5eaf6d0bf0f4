"""Serves an ASGI app with uvicorn on a socket that was opened before.

    python -m aijobs.cli.dev.serve MODULE:APP FD LOGLEVEL

The socket outlives this process: a request that comes during a reload waits instead of being refused.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import uvicorn

#: How long open requests get when the server is asked to stop.
GRACE_SECONDS = 3


def main() -> int:
    """Serves until SIGTERM; returns 0, or 1 when the app could not be started."""
    target, descriptor, level = sys.argv[1:]
    sys.path.insert(0, str(Path.cwd()))
    config = uvicorn.Config(target, log_level=level, timeout_graceful_shutdown=GRACE_SECONDS)
    server = uvicorn.Server(config)
    with socket.socket(fileno=int(descriptor)) as listener:
        server.run(sockets=[listener])
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
