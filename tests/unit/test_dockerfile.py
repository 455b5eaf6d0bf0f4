"""What Dockerfiles say, and what hadolint says of them."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from aijobs.compose import dockerfile, dockerignore
from aijobs.compose.installers import Installation
from aijobs.compose.spec import DeploymentSpec, Installer
from tests.compose.deployments import hadolint_warnings

FOUND = {
    "requirements": Installation(Installer.REQUIREMENTS, ("libs/b", "requirements.txt", "requirements/base.txt")),
    "itself": Installation(Installer.REQUIREMENTS, (".",), has_src=True),
    "plain": Installation(Installer.PYPROJECT, ("pyproject.toml",)),
    "package": Installation(Installer.PYPROJECT, ("pyproject.toml",), is_package=True, has_src=True),
    "dynamic": Installation(Installer.PYPROJECT, ("pyproject.toml",), is_package=True, is_static=False),
    "uv": Installation(Installer.UV, ("pyproject.toml", "uv.lock", "vendor/a.whl")),
    "libraries": Installation(Installer.PYPROJECT, ("pyproject.toml",), libraries=("libmagic1",)),
    "uv-package": Installation(Installer.UV, ("pyproject.toml", "uv.lock"), is_package=True),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "usual": {},
    "workers": {"api": None},
    "gpu": {"gpu": True, "system_packages": "libpq5,g++"},
    "base": {"base": "registry.example.com:5000/base:1.2", "gpu": True, "python": "3.14"},
}


def text(found: str = "plain", **options: Any) -> str:
    given = {"app": "shop.worker:celery_app", "api": "shop.main:app", "project": "shop", "root": Path(), **options}
    return dockerfile.render(DeploymentSpec.of(**given), FOUND[found])


def stages(written: str) -> list[str]:
    return re.split(r"^FROM ", written, flags=re.MULTILINE)[1:]


@pytest.mark.parametrize(("found", "options"), list(product(FOUND, OPTIONS)))
def test_hadolint_has_nothing_to_warn_of(found: str, options: str) -> None:
    assert hadolint_warnings(text(found, **OPTIONS[options])) == []


@pytest.mark.parametrize("found", sorted(FOUND.keys() - {"libraries"}))
def test_compilers_and_installers_stay_in_the_first_stage(found: str) -> None:
    builder, image = stages(text(found))
    assert "build-essential" in builder
    assert "pip" in builder
    assert not re.search(r"apt-get|pip|/opt/uv", image)


def installed(written: str) -> list[str]:
    """The system's packages in the second stage."""
    found = re.search(r"apt-get install --yes --no-install-recommends (.*) \\\n", stages(written)[-1])
    return found[1].split() if found else []


def test_libraries_are_in_the_second_stage() -> None:
    assert installed(text("plain")) == []
    assert installed(text("libraries")) == ["libmagic1"]
    assert installed(text("libraries", system_packages="libpq5, libmagic1")) == ["libmagic1", "libpq5"]
    with_cuda = installed(text("libraries", gpu=True, system_packages=["libpq5"]))
    assert {"libmagic1", "libpq5", "libssl3"} < set(with_cuda)
    assert len(with_cuda) == len(set(with_cuda))


@pytest.mark.parametrize("found", ["requirements", "plain", "package", "uv", "uv-package"])
def test_dependencies_come_before_the_code(found: str) -> None:
    builder, image = stages(text(found))
    installs = [builder.index(step) for step in ("install --requirement", "--no-install-project") if step in builder]
    assert len(installs) == 1
    assert "COPY . ." not in builder[: installs[0]]
    assert image.index("COPY --from=builder /opt/venv") < image.index("COPY . .")


def test_all_that_an_installer_reads_is_there() -> None:
    builder = stages(text("requirements"))[0]
    before = builder[: builder.index("install --requirement")]
    for line in ("COPY requirements.txt ./", "COPY libs/b libs/b", "COPY requirements/base.txt requirements/base.txt"):
        assert f"\n{line}\n" in before
    assert "COPY . .\nRUN" in stages(text("itself"))[0]
    assert "COPY pyproject.toml uv.lock ./\nCOPY vendor/a.whl vendor/a.whl\n" in text("uv")


@pytest.mark.parametrize(
    ("found", "last"),
    [
        ("package", "install --no-deps ."),
        ("dynamic", "install ."),
        ("uv-package", "uv sync --locked"),
        ("plain", "install --requirement /tmp/requirements.txt"),
        ("uv", "uv sync --locked --no-install-project"),
    ],
)
def test_a_package_is_installed_itself(found: str, last: str) -> None:
    assert stages(text(found))[0].rstrip().endswith(last)


def test_code_that_is_no_package_is_found() -> None:
    assert "PYTHONPATH=/app/src:/app " in text("itself")
    for found in ("plain", "package"):
        assert "PYTHONPATH=/app " in text(found)


@pytest.mark.parametrize("options", OPTIONS)
def test_it_is_run_by_a_user_of_its_own_and_asked_how_it_is(options: str) -> None:
    image = stages(text(**OPTIONS[options]))[-1]
    assert "\nUSER appuser\n" in image
    assert "useradd --uid 10001 " in image
    assert "\nSTOPSIGNAL SIGTERM\n" in image
    assert "AIJOBS_HEALTH_FOLDER=/tmp/health" in image
    for instruction, program in (("CMD", "uvicorn"), ("    CMD", "python")):
        command = json.loads(re.findall(rf"^{instruction} (\[.*)$", image, re.MULTILINE)[0])
        assert command[0] == ("celery" if (options, program) == ("workers", "uvicorn") else program)


def test_a_deployment_without_an_api_is_asked_as_a_worker() -> None:
    written = text(api=None)
    assert 'CMD ["python", "-m", "aijobs", "health", "worker"]' in written
    assert 'CMD ["celery", "-A", "shop.worker:celery_app", "worker", "--loglevel", "INFO"]' in written
    assert "uvicorn" not in written
    assert "EXPOSE" not in written


def test_its_user_can_use_what_is_in_it() -> None:
    image = stages(text())[-1]
    checks = image[image.index("\nUSER appuser\n") :]
    assert "find . ! -readable" in checks
    assert "import sys, aijobs, celery, uvicorn" in checks


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_the_version_of_python(python: str) -> None:
    written = text(python=python)
    assert f"ARG BASE_IMAGE=python:{python}-slim\n" in written
    assert f"assert sys.version_info[:2] == (3, {python[2:]})" in written
    assert f"ARG PYTHON_IMAGE=python:{python}-slim-bookworm\n" in text(python=python, gpu=True)


def test_gpus() -> None:
    cuda = text(gpu=True)
    assert "ARG BASE_IMAGE=nvidia/cuda:" in cuda
    assert "-runtime-" in cuda, "CUDA's compilers are in -devel-"
    assert "COPY --from=builder /usr/local/ /usr/local/" in cuda
    given = text(gpu=True, base="example.com/torch:2")
    assert "ARG BASE_IMAGE=example.com/torch:2\n" in given
    assert "/usr/local/ /usr/local/" not in given
    for written in (cuda, given):
        assert "NVIDIA_VISIBLE_DEVICES=all" in written


def test_what_is_ignored() -> None:
    spec = DeploymentSpec.of(app="shop.worker:celery_app", project="shop", root=Path(), makefile="deploy.mk")
    ignored = dockerignore.render(spec).splitlines()
    for name in (
        "**/.git",
        ".env",
        "**/.env",
        "**/.envrc",
        "**/tests",
        "**/.venv",
        "**/__pycache__",
        "compose*.yaml",
        "deploy.mk",
    ):
        assert name in ignored
    assert not {"README.md", "pyproject.toml", "uv.lock", "requirements.txt", "LICENSE", "src"} & set(ignored)
    patterns = [line for line in ignored if line and not line.startswith("#")]
    assert len(patterns) == len(set(patterns))
