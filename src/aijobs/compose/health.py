"""How a container is asked whether it is well. `aijobs health` is the program."""

from __future__ import annotations

API_COMMAND = ("python", "-m", "aijobs", "health", "api")
WORKER_COMMAND = ("python", "-m", "aijobs", "health", "worker")
BEAT_COMMAND = ("python", "-m", "aijobs", "health", "beat")
