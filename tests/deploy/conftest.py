"""Projects, and images of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy import images, shop


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project as a wheel."""
    return shop.build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A base image as a company may have one: Python's, with a folder of its own wheels."""
    if reason := images.reason_to_skip():
        pytest.skip(reason)
    context = tmp_path_factory.mktemp("base")
    (context / wheel.name).write_bytes(wheel.read_bytes())
    lines = (f"FROM {images.BASE}", "COPY *.whl /wheels/", "ENV PIP_FIND_LINKS=/wheels", "")
    (context / "Dockerfile").write_text("\n".join(lines))
    return images.build(context, "deploy-check/base")


@pytest.fixture(scope="session")
def python(base: str) -> str:
    """The version of its Python."""
    with images.container(base) as container:
        return container.run("python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
