"""Images, really built by buildah, which needs neither an engine nor its daemon."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The image that stands for Python's own: any Debian or Ubuntu with Python.
BASE = os.environ.get("DEPLOY_BASE_IMAGE", "docker.io/library/python:3.12-slim")
BUILD_SECONDS = 1_200
# What works in containers too, which have no privileges.
_PROGRAM = ("buildah", "--storage-driver", os.environ.get("DEPLOY_STORAGE_DRIVER", "vfs"))
_DEFAULTS = {"BUILDAH_ISOLATION": "chroot"}


def reason_to_skip() -> str | None:
    """Why no image can be built here; None when it can."""
    if not os.environ.get("DEPLOY_CHECK"):
        return "images are built by `make deploy-check`"
    return None if shutil.which("buildah") else "buildah is not installed"


def buildah(*words: str, timeout: float = 120) -> str:
    """Runs a command; its output."""
    done = subprocess.run(command(*words), env=environ(), capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"buildah {' '.join(words)}:\n{done.stdout[-4_000:]}\n{done.stderr[-4_000:]}"
    return done.stdout.strip()


def command(*words: str) -> list[str]:
    """What runs a command of buildah, in `environ`."""
    return [*_PROGRAM, *words]


def environ() -> Mapping[str, str]:
    """Of commands."""
    return _DEFAULTS | os.environ


def build(context: Path, tag: str, **arguments: str) -> str:
    """Builds what a folder's Dockerfile says."""
    given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    buildah("build", "--format=docker", f"--tag={tag}", *given, str(context), timeout=BUILD_SECONDS)
    return tag


@dataclass(frozen=True)
class Container:
    """An image's file system, to run programs in and to look into."""

    name: str
    root: Path

    def run(self, *words: str, user: str | None = None) -> str:
        as_user = [f"--user={user}"] if user else []
        return buildah("run", *as_user, self.name, "--", *words)

    def programs(self) -> set[str]:
        """The names of all that can be executed, wherever it is, and of all links, which lead elsewhere from here."""
        return {path.name for path in self.root.rglob("*") if path.is_symlink() or _is_program(path)}


@contextmanager
def container(image: str) -> Iterator[Container]:
    name = buildah("from", image)
    try:
        yield Container(name, Path(buildah("mount", name)))
    finally:
        buildah("rm", name)


def configuration(image: str) -> dict[str, Any]:
    """What an image says of itself."""
    found: dict[str, Any] = json.loads(buildah("inspect", "--type=image", image))["Docker"]["config"]
    return found


def megabytes(image: str, base: str) -> float:
    """The size of an image that was built here, without that of its base."""
    sizes = {name: one["size"] for one in json.loads(buildah("images", "--json")) for name in one.get("names") or ()}
    of_image, of_base = (_bytes(sizes[f"localhost/{name}:latest"]) for name in (image, base))
    return (of_image - of_base) / 1e6


def _is_program(path: Path) -> bool:
    return path.is_file() and bool(path.stat().st_mode & 0o111)


def _bytes(shown: str) -> float:
    number, unit = shown.split()
    return float(number) * {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit.upper()]
