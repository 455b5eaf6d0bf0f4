"""The Dockerfile of an app.

One image serves the API, the workers and the scheduler. A first stage has compilers and installers, and what they made,
a virtual environment, goes into the second, which has neither.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from aijobs._vitals import API_PORT
from aijobs.compose import health
from aijobs.compose.installers import EVERYTHING, LOCK, PYPROJECT, REQUIREMENTS, Installation
from aijobs.compose.spec import (
    APP_FOLDER,
    BEAT_FOLDER,
    CACHE_FOLDER,
    FILES_FOLDER,
    HEALTH_FOLDER,
    USER_ID,
    USER_NAME,
    DeploymentSpec,
    Installer,
)

#: Where the packages are in the image.
VENV = "/opt/venv"

#: What GPU workers run on unless the spec names something: CUDA's libraries without its compilers.
CUDA_IMAGE = "nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04"
#: The version of uv in the first stage.
UV_VERSION = "0.13.9"

#: The shared libraries that Python's own image has and CUDA's has not.
_PYTHON_LIBRARIES = (
    *("ca-certificates", "libbz2-1.0", "libffi8", "liblzma5", "libncursesw6"),
    *("libreadline8", "libsqlite3-0", "libssl3", "libuuid1", "zlib1g"),
)
_BUILD_PACKAGES = "build-essential"
_CONTINUED = " \\\n"


def render(spec: DeploymentSpec, found: Installation) -> str:
    """The Dockerfile.

    Args:
        spec: of the deployment.
        found: how its project is installed.
    """
    blocks = (*_images(spec), *_builder(found), *_runtime(spec, found), *_end(spec))
    return "\n\n".join(blocks) + "\n"


def _images(spec: DeploymentSpec) -> Iterator[str]:
    if _is_cuda(spec):
        yield _lines(
            "# CUDA's libraries come from NVIDIA's image, and Python from its own: of a Debian whose C library is no",
            "# newer than that of the Ubuntu it is to run on. For others: docker build --build-arg BASE_IMAGE=…",
            f"ARG PYTHON_IMAGE=python:{spec.python}-slim-bookworm",
            f"ARG BASE_IMAGE={CUDA_IMAGE}",
        )
        yield "FROM ${PYTHON_IMAGE} AS builder"
        return
    yield _lines(
        f"# Debian or Ubuntu with Python {spec.python}. To use a mirror: docker build --build-arg BASE_IMAGE=…",
        f"ARG BASE_IMAGE={spec.base or f'python:{spec.python}-slim'}",
    )
    yield "FROM ${BASE_IMAGE} AS builder"


def _builder(found: Installation) -> Iterator[str]:
    yield _lines(
        "# For packages without a wheel. Nothing of this gets into the image.",
        f'ARG BUILD_PACKAGES="{_BUILD_PACKAGES}"',
        "# hadolint ignore=DL3008,SC2086",
        _apt_install("${BUILD_PACKAGES}"),
    )
    yield f"WORKDIR {APP_FOLDER}"
    yield from _uv(found) if found.installer is Installer.UV else _pip(found)


def _uv(found: Installation) -> Iterator[str]:
    yield _lines(
        f"ARG UV_VERSION={UV_VERSION}",
        "# It takes this image's Python whatever .python-version says, and trusts who this image trusts.",
        _env(
            UV_COMPILE_BYTECODE="1",
            UV_LINK_MODE="copy",
            UV_NO_DEV="1",
            UV_NO_EDITABLE="1",
            UV_PROJECT_ENVIRONMENT=VENV,
            UV_PYTHON="python3",
            UV_PYTHON_DOWNLOADS="never",
            UV_SYSTEM_CERTS="1",
        ),
        _run("python3 -m venv /opt/uv", '/opt/uv/bin/pip install --no-cache-dir "uv==${UV_VERSION}"'),
    )
    yield _lines(
        "# Before the code, so that a change of the code alone installs nothing again.",
        *_copies(found),
        _run("/opt/uv/bin/uv sync --locked --no-install-project", cache="/root/.cache/uv"),
    )
    if found.is_package:
        yield _lines("# The project itself.", "COPY . .", _run("/opt/uv/bin/uv sync --locked", cache="/root/.cache/uv"))


def _pip(found: Installation) -> Iterator[str]:
    yield f"RUN python3 -m venv --without-pip {VENV}"
    if found.installer is Installer.REQUIREMENTS:
        yield _lines(
            "# Before the code, so that a change of the code alone installs nothing again.",
            *_copies(found),
            _pip_install(f"--requirement {REQUIREMENTS}"),
        )
        return
    if found.is_static:
        project = f"tomllib.load(open('{PYPROJECT}', 'rb'))['project']"
        listing = f"import tomllib; print(*{project}.get('dependencies', []), sep='\\n')"
        yield _lines(
            "# What the project needs, before its code, so that a change of the code alone installs nothing again.",
            *_copies(found),
            _run(f'python3 -c "{listing}" > /tmp/requirements.txt'),
            _pip_install("--requirement /tmp/requirements.txt"),
        )
    if found.is_package:
        yield _lines("# The project itself.", "COPY . .", _pip_install("--no-deps ." if found.is_static else "."))


def _runtime(spec: DeploymentSpec, found: Installation) -> Iterator[str]:
    yield "FROM ${BASE_IMAGE}"
    if libraries := _libraries(spec, found):
        yield _lines(
            "# Libraries that Python and the packages of the app need when they run.",
            "# hadolint ignore=DL3008",
            _apt_install(*libraries),
        )
    if _is_cuda(spec):
        yield _lines("COPY --from=builder /usr/local/ /usr/local/", "RUN ldconfig")
    yield _lines(
        "# The folders are for volumes: a new volume takes over whose its folder is.",
        _run(
            f"groupadd --gid {USER_ID} {USER_NAME}",
            f"useradd --uid {USER_ID} --gid {USER_NAME} --create-home --shell /usr/sbin/nologin {USER_NAME}",
            f"install --directory --owner {USER_NAME} --group {USER_NAME} {FILES_FOLDER} {BEAT_FOLDER} {CACHE_FOLDER}",
        ),
    )
    yield _lines(
        "# Output is shown as it is written, and nothing is written beside the code, which may be read-only.",
        _env(**_environment(spec, found)),
    )
    yield f"WORKDIR {APP_FOLDER}"
    yield _lines(
        "# What changes least comes first. All of it is root's, so that the app cannot change itself.",
        f"COPY --from=builder {VENV} {VENV}",
        "COPY . .",
    )


def _libraries(spec: DeploymentSpec, found: Installation) -> list[str]:
    of_python = _PYTHON_LIBRARIES if _is_cuda(spec) else ()
    return sorted({*of_python, *found.libraries, *spec.system_packages})


def _checks(spec: DeploymentSpec) -> Iterator[str]:
    modules = ["aijobs", "celery", *(["uvicorn"] if spec.api else [])]
    version = tuple(map(int, spec.python.split(".")))
    yield _lines(
        "# Who builds with a strict umask has files that this user may not read. They are named here; mend it with",
        "# chmod -R a+rX.",
        _run("find . ! -readable -print -exec false {} +"),
    )
    yield _lines(
        "# What every container runs has to be among the packages of the app: better to fail here than there.",
        _run(f'python -c "import sys, {", ".join(modules)}; assert sys.version_info[:2] == {version}, sys.version"'),
    )


def _environment(spec: DeploymentSpec, found: Installation) -> dict[str, str]:
    known = {
        "AIJOBS_HEALTH_FOLDER": HEALTH_FOLDER,
        "PATH": f"{VENV}/bin:$PATH",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": f"{APP_FOLDER}/src:{APP_FOLDER}" if found.has_src and not found.is_package else APP_FOLDER,
        "PYTHONUNBUFFERED": "1",
    }
    gpu = {"NVIDIA_DRIVER_CAPABILITIES": "compute,utility", "NVIDIA_VISIBLE_DEVICES": "all"}
    return dict(sorted((known | gpu).items())) if spec.gpu else known


def _end(spec: DeploymentSpec) -> Iterator[str]:
    yield f"USER {USER_NAME}"
    yield from _checks(spec)
    yield _lines(
        "# The API waits for requests to end, a worker gives its jobs back. Neither needs another signal.",
        "STOPSIGNAL SIGTERM",
    )
    probe, command = health.WORKER_COMMAND, ("celery", "-A", spec.app, "worker", "--loglevel", "INFO")
    if spec.api:
        probe = health.API_COMMAND
        command = ("uvicorn", spec.api, "--host", "0.0.0.0", "--port", str(API_PORT))
    yield _lines(
        "# Other containers of this image say in compose.yaml what they run, and how they are asked.",
        *([f"EXPOSE {API_PORT}"] if spec.api else []),
        "HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3"
        + _CONTINUED
        + f"    CMD {_exec(probe)}",
        f"CMD {_exec(command)}",
    )
    yield _lines(
        'ARG VERSION=""',
        'ARG REVISION=""',
        f'LABEL org.opencontainers.image.title="{spec.project}"'
        + _CONTINUED
        + '      org.opencontainers.image.version="${VERSION}"'
        + _CONTINUED
        + '      org.opencontainers.image.revision="${REVISION}"',
    )


def _is_cuda(spec: DeploymentSpec) -> bool:
    """Whether the image is to have CUDA's libraries, and so has to be given a Python."""
    return spec.gpu and spec.base is None


def _copies(found: Installation) -> Iterator[str]:
    """Copies what the installer reads, each to the place that it has in the project."""
    if EVERYTHING in found.needs:
        yield "COPY . ."
        return
    top = [name for name in found.needs if name in {REQUIREMENTS, PYPROJECT, LOCK}]
    yield f"COPY {' '.join(top)} ./"
    for name in found.needs:
        if name not in top:
            yield f"COPY {name} {name}"


def _pip_install(what: str) -> str:
    return _run(f"python3 -m pip --python {VENV}/bin/python install {what}", cache="/root/.cache/pip")


def _run(*commands: str, cache: str | None = None) -> str:
    mount = f"--mount=type=cache,target={cache}{_CONTINUED}    " if cache else ""
    return f"RUN {mount}" + f"{_CONTINUED} && ".join(commands)


def _apt_install(*packages: str) -> str:
    install = f"apt-get install --yes --no-install-recommends {' '.join(packages)}"
    return _run("apt-get update", install, "rm -rf /var/cache/apt/* /var/lib/apt/lists/*")


def _env(**values: str) -> str:
    return "ENV " + f"{_CONTINUED}    ".join(f"{name}={value}" for name, value in values.items())


def _exec(command: Sequence[str]) -> str:
    return json.dumps(list(command))


def _lines(*lines: str) -> str:
    return "\n".join(lines)
