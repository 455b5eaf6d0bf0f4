"""The files that a team needs to run its app in containers, made from its Celery app and a small spec.

    from pathlib import Path
    from aijobs.compose import generate, load, write

    spec = load(Path(), {"app": "shop.worker:celery_app", "api": "shop.main:app", "services": "postgres"})
    write(spec.root, generate(spec))

Nothing here needs a server, Docker or FastAPI. The app is imported in a process of its own, to read its queues, its
schedule and its time limits.
"""

from aijobs.compose.files import File, Standing, differences, standing, write
from aijobs.compose.generate import generate
from aijobs.compose.load import load
from aijobs.compose.spec import DeploymentSpec, Installer, ServiceName, WorkerClass

__all__ = [
    "DeploymentSpec",
    "File",
    "Installer",
    "ServiceName",
    "Standing",
    "WorkerClass",
    "differences",
    "generate",
    "load",
    "standing",
    "write",
]
