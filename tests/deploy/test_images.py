"""Images, really built: what is in them, what is not, and how large they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from aijobs.compose import Installer
from tests.deploy import shop
from tests.deploy.images import Container, build, configuration, container, megabytes

pytestmark = pytest.mark.timeout(3_600)

INSTALLERS = [Installer.REQUIREMENTS, Installer.PYPROJECT, Installer.UV]
TOOLS = re.compile(r"(.*-)?(gcc|g\+\+|cc|c\+\+|cpp|clang|ld(\.(bfd|gold|lld))?|as|make|uv|cargo|rustc)(-\d+)?")


@pytest.fixture(scope="module", params=INSTALLERS)
def built(
    request: pytest.FixtureRequest, base: str, python: str, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """An image of the example, with compilers at hand while it is built."""
    installer = request.param
    vendored = wheel if installer is not Installer.PYPROJECT else None
    root = shop.make(tmp_path_factory.mktemp("shop") / "shop", installer, vendored)
    spec = shop.deploy(root, installer, services="beat,valkey", python=python)
    assert spec.installer is installer
    return build(root, f"deploy-check/{installer}", BASE_IMAGE=base)


@pytest.fixture(scope="module")
def inside(built: str) -> Iterator[Container]:
    with container(built) as found:
        yield found


def test_it_says_how_it_is_run(built: str) -> None:
    said = configuration(built)
    assert (said["User"], said["WorkingDir"], said["StopSignal"]) == ("appuser", "/app", "SIGTERM")
    assert said["Cmd"] == ["uvicorn", "shop.main:app", "--host", "0.0.0.0", "--port", "8000"]
    assert said["Healthcheck"]["Test"] == ["CMD", "python", "-m", "aijobs", "health", "api"]
    assert said["Labels"]["org.opencontainers.image.title"] == "shop"
    assert "8000/tcp" in said["ExposedPorts"]


def test_a_user_of_its_own_runs_it_and_cannot_change_it(inside: Container) -> None:
    assert inside.run("id", "-un") == "appuser"
    assert inside.run("id", "-u") == "10001"
    look = "for one in /app /opt/venv /data/files /data/beat /data/cache /tmp; do test -w $one && echo $one; done; true"
    assert inside.run("sh", "-c", look).split() == ["/data/files", "/data/beat", "/data/cache", "/tmp"]


def test_it_has_no_tools(inside: Container) -> None:
    assert sorted(name for name in inside.programs() if TOOLS.fullmatch(name)) == []
    assert not list((inside.root / "opt/venv").rglob("pip"))


def test_it_has_the_code_and_nothing_private(inside: Container) -> None:
    app = inside.root / "app"
    assert (app / "shop/worker.py").is_file()
    assert [name for name in shop.PRIVATE if (app / name).exists()] == []
    found = {path.relative_to(app).parts[0] for path in app.rglob("*") if path.is_file()}
    assert found.isdisjoint(
        {".git", ".env", "tests", "Makefile", "compose.yaml", "Dockerfile", "deploy", ".dockerignore"}
    )


def test_packages_are_compiled_ahead(inside: Container) -> None:
    assert list((inside.root / "opt/venv").glob("lib/python3*/site-packages/celery/__pycache__/*.pyc"))


def test_its_programs_run(inside: Container) -> None:
    assert inside.run("celery", "--version")
    assert inside.run("python", "-c", "import shop.main; print(shop.main.app.title)") == "FastAPI"
    assert inside.run("python", "-m", "aijobs", "--version").startswith("aijobs ")


def test_libraries_are_the_distribution_s(inside: Container) -> None:
    look = "from aijobs.files.libmagic import load_libmagic; load_libmagic(); import magic; print(magic.libmagic._name)"
    assert inside.run("python", "-c", look, user="appuser") == "libmagic.so.1"
    assert inside.run("dpkg-query", "--show", "--showformat=${Status}", "libmagic-mgc") == "install ok installed"


@pytest.fixture(scope="module")
def single(base: str, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What tutorials show: one stage that has all."""
    root = shop.make(tmp_path_factory.mktemp("single") / "shop", Installer.REQUIREMENTS, wheel)
    lines = (
        f"FROM {base}",
        "RUN apt-get update && apt-get install --yes build-essential",
        "WORKDIR /app",
        "COPY . .",
        "RUN pip install -r requirements.txt",
        'CMD ["uvicorn", "shop.main:app"]',
    )
    (root / "Dockerfile").write_text("\n".join(lines) + "\n")
    return build(root, "deploy-check/single")


def test_tools_would_be_found(single: str) -> None:
    with container(single) as other:
        assert {name for name in other.programs() if TOOLS.fullmatch(name)} >= {"gcc", "cc", "g++", "ld", "make"}


def test_it_is_smaller_than_what_one_stage_makes(built: str, single: str, base: str) -> None:
    mine, other = megabytes(built, base), megabytes(single, base)
    print(f"beyond the base: {built} {mine:.0f} MB, in one stage {other:.0f} MB")
    assert mine < other / 2


def test_a_base_without_python_is_given_one(base: str, python: str, wheel: Path, tmp_path: Path) -> None:
    """As with CUDA's image, for which a plain one stands here."""
    (tmp_path / "plain").mkdir()
    strip = (
        "apt-get update && apt-get remove --yes libsqlite3-0 libreadline8 && rm -rf /usr/local/bin/* /usr/local/lib/*"
    )
    (tmp_path / "plain/Dockerfile").write_text(f"FROM {base}\nRUN {strip}\n")
    plain = build(tmp_path / "plain", "deploy-check/plain")
    root = shop.make(tmp_path / "shop", Installer.REQUIREMENTS, wheel)
    shop.deploy(root, gpu=True, python=python)
    given = {"PYTHON_IMAGE": base, "BASE_IMAGE": plain, "BUILD_PACKAGES": ""}
    with container(build(root, "deploy-check/gpu", **given)) as inside:
        assert inside.run("python", "-c", "import sqlite3, ssl, ctypes, readline, shop.main; print('all')") == "all"
        assert inside.run("id", "-un") == "appuser"
        assert inside.run("sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES") == "all"
