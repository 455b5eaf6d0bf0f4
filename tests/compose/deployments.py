"""Deployments to try, without an app to import."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from aijobs.compose import DeploymentSpec, File, generate
from aijobs.compose.inspection import Facts, Queue

#: What the other half of the generator writes, which has tests of its own.
NOT_HERE = ("Dockerfile", ".dockerignore")

PLAIN = Facts((Queue("celery", ("shop.worker.answer",), 150.0),))
BUSY = Facts(
    (
        Queue("celery", ("shop.worker.answer",), 150.0),
        Queue("heavy", ("shop.worker.ingest",), 330.0),
        Queue("gpu", ("shop.worker.embed",), 1860.0),
    ),
    has_schedule=True,
    soft_shutdown_seconds=20.0,
)


def spec_of(root: Path, **options: Any) -> DeploymentSpec:
    """A spec with the usual names."""
    usual = {"app": "shop.worker:celery_app", "api": "shop.main:app", "project": "shop"}
    return DeploymentSpec.of(root=root, **{**usual, **options})


def files_of(root: Path, facts: Facts = PLAIN, **options: Any) -> dict[str, File]:
    """The files of a deployment by their paths."""
    return {file.path: file for file in generate(spec_of(root, **options), facts)}


def project(root: Path) -> Path:
    """A folder that says what it needs, as the image wants to know."""
    (root / "requirements.txt").write_text("aijobs\n")
    return root


def compose_program() -> Path | None:
    """Docker Compose itself, which reads files without an engine."""
    package = importlib.util.find_spec("compose")
    bundled = Path(package.origin).parent / "docker-compose" if package and package.origin else None
    if bundled is not None and bundled.exists():
        return bundled
    found = shutil.which("docker-compose")
    return Path(found) if found else None
