"""`aijobs compose`, as people use it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from aijobs.cli import main

WORKER = """
from celery import Celery
from aijobs import ProgressTask

celery_app = Celery("shop", broker="redis://localhost:1/0", backend="redis://localhost:1/0")

@celery_app.task(base=ProgressTask, bind=True)
def work(self) -> None: ...
"""
APP = "shop.worker:celery_app"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, which is where the command is given."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "worker.py").write_text(WORKER)
    (tmp_path / "requirements.txt").write_text("aijobs\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(root: Path) -> set[str]:
    hidden = {"shop", "requirements.txt", "pyproject.toml"}
    found = (one.relative_to(root).as_posix() for one in root.rglob("*") if one.is_file())
    return {name for name in found if name.partition("/")[0] not in hidden}


WRITTEN = {"compose.yaml", "Dockerfile", ".dockerignore", ".env.example", "Makefile", "deploy/README.md"}


def test_write_then_check_then_change(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compose", APP, "--workers", "3", "--with", "postgres"]) == 0
    assert files(shop) == WRITTEN
    told = capsys.readouterr().out
    assert "new  compose.yaml" in told
    assert "make up" in told
    # What it says to put into pyproject.toml does the same.
    (shop / "pyproject.toml").write_text(told[told.index("[tool") : told.index("\n\nStart")])
    assert tomllib.loads((shop / "pyproject.toml").read_text())["tool"]["aijobs"]["compose"]["with"] == ["postgres"]
    assert main(["compose", "--check"]) == 0
    assert "up to date" in capsys.readouterr().out
    assert main(["compose", "--check", "--with", "qdrant"]) == 1
    assert "+  qdrant:" in capsys.readouterr().out
    assert "qdrant" not in (shop / "compose.yaml").read_text()
    assert main(["compose", "--with", "qdrant"]) == 0
    assert "updated  compose.yaml" in capsys.readouterr().out
    assert "qdrant" in (shop / "compose.yaml").read_text()


def test_changes_by_hand_are_safe(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compose", APP]) == 0
    path = shop / "compose.yaml"
    edited = path.read_text().replace("replicas: 2", "replicas: 7")
    path.write_text(edited)
    assert main(["compose", APP]) == 0
    assert main(["compose", APP, "--check"]) == 0
    assert main(["compose", APP, "--workers", "4"]) == 2
    assert "compose.yaml (changed by hand)" in capsys.readouterr().err
    assert path.read_text() == edited
    assert main(["compose", APP, "--workers", "4", "--skip", "compose.yaml"]) == 0
    assert path.read_text() == edited
    assert main(["compose", APP, "--workers", "4", "--force"]) == 0
    assert "replicas: 4" in path.read_text()


def test_a_makefile_of_the_project_stays(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "Makefile").write_text("all:\n")
    assert main(["compose", APP]) == 2
    assert "Makefile (not written by aijobs)" in capsys.readouterr().err
    assert files(shop) == {"Makefile"}
    assert main(["compose", APP, "--makefile", "deploy.mk"]) == 0
    assert (shop / "Makefile").read_text() == "all:\n"
    assert "make -f deploy.mk up" in capsys.readouterr().out


def test_the_installer_can_be_named(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compose", APP, "--installer", "uv"]) == 2
    assert "uv.lock" in capsys.readouterr().err
    assert files(shop) == set()


def test_packages_of_the_system_can_be_named(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compose", APP, "--system-package", "libpq5,libgomp1"]) == 0
    assert 'system-packages = ["libpq5", "libgomp1"]' in capsys.readouterr().out
    assert "--no-install-recommends libgomp1 libpq5 " in (shop / "Dockerfile").read_text()


def test_a_project_with_a_dockerfile_of_its_own_need_not_say_how_it_is_installed(shop: Path) -> None:
    (shop / "requirements.txt").unlink()
    assert main(["compose", APP]) == 2
    assert main(["compose", APP, "--skip", "Dockerfile,.dockerignore"]) == 0
    assert files(shop) == WRITTEN - {"Dockerfile", ".dockerignore"}


def test_what_is_no_longer_needed_is_named(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compose", APP, "--with", "pgvector", "--kubernetes"]) == 0
    capsys.readouterr()
    assert main(["compose", APP]) == 0
    assert "no longer needed  deploy/postgres/vector.sql" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Name the Celery app"),
        (["shop.worker:nothing"], "shop.worker has no 'nothing'"),
        (["shop.walker:celery_app"], "There is no 'walker' in the package 'shop'"),
        ([APP, "--api", "shop.main:app"], "There is no 'main' in the package 'shop'"),
        ([APP, "--with", "postgress"], "did you mean postgres?"),
        ([APP, "--project", "a\nb"], "project takes"),
        ([APP, "--skip", "Dokerfile"], "did you mean Dockerfile?"),
        ([APP, "--directory", "elsewhere"], "There is no folder elsewhere"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    shop: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(["compose", *arguments]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert len(told.splitlines()) == 1
    assert files(shop) == set()
