"""Where the job records live."""

from __future__ import annotations

from aijobs.store.base import JobStore
from aijobs.store.connect import open_store

__all__ = ["JobStore", "open_store"]
