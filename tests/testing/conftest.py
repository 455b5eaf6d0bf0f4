"""What the tests of `aijobs.testing` share: an app without a broker, and modules that workers can import."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery import Celery

APPS = Path(__file__).parent / "apps"


@pytest.fixture
def app() -> Celery:
    """An app that was told of no broker, no backend and no store."""
    return Celery("tasks", set_as_current=False)


@pytest.fixture
def apps_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules in `apps/` can be imported, here and by workers."""
    monkeypatch.syspath_prepend(str(APPS))
