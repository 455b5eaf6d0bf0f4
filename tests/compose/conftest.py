"""What tests of deployments have in common."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def not_under_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests call `make`, which must not take itself for a part of the one that may run the tests."""
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"):
        monkeypatch.delenv(name, raising=False)
