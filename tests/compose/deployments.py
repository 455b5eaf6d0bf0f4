"""Deployments to try, without an app to import."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from aijobs.compose import DeploymentSpec, File, generate
from aijobs.compose.inspection import Facts, Queue

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


def project(root: Path, requirements: str = "aijobs") -> Path:
    """A folder that says what it needs, as the image wants to know."""
    (root / "requirements.txt").write_text(f"{requirements}\n")
    return root


def hadolint_warnings(dockerfile: str) -> list[dict[str, Any]]:
    """What hadolint has to say of a Dockerfile that is more than a hint."""
    program = shutil.which("hadolint", path=sysconfig.get_path("scripts")) or shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed: pip install --group test brings it")
    command = [program, "--format", "json", "-"]
    done = subprocess.run(command, input=dockerfile, capture_output=True, text=True, check=False)
    return [one for one in json.loads(done.stdout) if one["level"] in {"error", "warning"}]


def compose_program() -> Path | None:
    """Docker Compose itself, which reads files without an engine."""
    package = importlib.util.find_spec("compose")
    bundled = Path(package.origin).parent / "docker-compose" if package and package.origin else None
    if bundled is not None and bundled.exists():
        return bundled
    found = shutil.which("docker-compose")
    return Path(found) if found else None
