"""A small project as teams have them, for each way to say what it needs, with what must not get into an image."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from aijobs.compose import DeploymentSpec, Installer, generate, write
from tests.docs.pages import ROOT

APP, API = "shop.worker:celery_app", "shop.main:app"
PACKAGES = ("aijobs[uploads]", "uvicorn>=0.30")

WORKER = '''\
"""The Celery app."""

import os
import signal
import threading
import time

from celery import Celery, signals

from aijobs import ProgressTask, setup

URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
celery_app = Celery("shop", broker=URL, backend=URL)
setup(celery_app)
celery_app.conf.beat_schedule = {"count": {"task": "shop.worker.count", "schedule": 1.0}}


@celery_app.task(base=ProgressTask, bind=True)
def ingest(self: ProgressTask, pages: int, seconds: float = 0.0) -> int:
    """Ingests a document."""
    for _ in self.track(range(pages)):
        time.sleep(seconds)
    return pages


@celery_app.task
def count() -> None:
    """Counts something."""


def _hang(*_: object) -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


@signals.worker_ready.connect
def _on_ready(**_: object) -> None:
    # A dead-lock in the main thread, on demand.
    signal.signal(signal.SIGUSR1, _hang)
'''

MAIN = '''\
"""The API."""

from fastapi import FastAPI

from aijobs import job_router
from shop.worker import celery_app

app = FastAPI()
app.include_router(job_router(celery_app))
'''

#: What stays out of the image.
PRIVATE = {
    ".env": "REDIS_PASSWORD=secret\n",
    ".envrc": "export REDIS_PASSWORD=secret\n",
    ".git/HEAD": "ref: refs/heads/main\n",
    "shop/__pycache__/old.cpython-310.pyc": "",
    "shop/tests/test_worker.py": "def test_nothing() -> None: ...\n",
    "tests/test_shop.py": "def test_nothing() -> None: ...\n",
    "tls.key": "secret\n",
    "shop/.git": "gitdir: ../.git/modules/shop\n",
}


def make(root: Path, installer: Installer, wheel: Path | None = None) -> Path:
    """The project.

    Args:
        root: the folder to make.
        installer: how it says what it needs.
        wheel: of aijobs, to be taken from within the project; else an index or a folder of wheels has it.
    """
    vendored = None if wheel is None else f"vendor/{wheel.name}"
    files = {"shop/__init__.py": "", "shop/worker.py": WORKER, "shop/main.py": MAIN, **PRIVATE}
    if installer is Installer.REQUIREMENTS:
        files["requirements.txt"] = "-r requirements/base.txt\n" + "\n".join(PACKAGES[1:]) + "\n"
        files["requirements/base.txt"] = f"{f'./{vendored}[uploads]' if vendored else PACKAGES[0]}\n"
    else:
        files["pyproject.toml"] = _project(installer, vendored)
        files["README.md"] = "# Shop\n"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if wheel is not None and vendored is not None:
        (root / vendored).parent.mkdir()
        (root / vendored).write_bytes(wheel.read_bytes())
    if installer is Installer.UV:
        subprocess.run(
            [sys.executable, "-m", "uv", "lock", "--quiet", "--no-cache"], cwd=root, check=True, env=_uv_env()
        )
    return root


def deploy(root: Path, installer: Installer = Installer.AUTO, **options: object) -> DeploymentSpec:
    """Writes the files of its deployment."""
    given = {"app": APP, "api": API, "project": "shop", "installer": installer, **options}
    spec = DeploymentSpec.of(root=root, **given)
    write(root, generate(spec))
    return spec


def build_wheel(folder: Path) -> Path:
    """A wheel of this project."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def _project(installer: Installer, vendored: str | None) -> str:
    text = (
        f'[project]\nname = "shop"\nversion = "1.0"\nreadme = "README.md"\nrequires-python = ">=3.11"\n'
        f"dependencies = {list(PACKAGES)}\n"
    )
    if installer is Installer.PYPROJECT:
        return text + '\n[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    return text + (f'\n[tool.uv.sources]\naijobs = {{ path = "{vendored}" }}\n' if vendored else "")


def _uv_env() -> dict[str, str]:
    return {**os.environ, "UV_SYSTEM_CERTS": "1", "UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never"}
