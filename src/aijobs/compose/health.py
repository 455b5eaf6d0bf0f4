"""How a container is asked whether it is well. `aijobs health` is the program."""

from __future__ import annotations

from aijobs._vitals import HEALTH_PATH

API_COMMAND = ("python", "-m", "aijobs", "health", "api")
WORKER_COMMAND = ("python", "-m", "aijobs", "health", "worker")
BEAT_COMMAND = ("python", "-m", "aijobs", "health", "beat")


def api_command(path: str | None) -> tuple[str, ...]:
    """Asks the API whether it, its store and its broker are well.

    Args:
        path: of its health route; where it has none, any answer will do.
    """
    if path is None:
        return live_command()
    return API_COMMAND if path == HEALTH_PATH else (*API_COMMAND, f"--path={path}")


def live_command() -> tuple[str, ...]:
    """Asks the API for any answer: it need not be restarted because its store is away."""
    return (*API_COMMAND, "--live")
