"""Uploaded files: where their bytes are, what a task gets of them, and which are taken."""

from __future__ import annotations

from aijobs.files.opening import open_files
from aijobs.files.rules import FileRefused, FileRules, Reason
from aijobs.files.store import FileStore, FileWriter, StoredFile
from aijobs.files.uploaded import UploadedFile

__all__ = [
    "FileRefused",
    "FileRules",
    "FileStore",
    "FileWriter",
    "Reason",
    "StoredFile",
    "UploadedFile",
    "open_files",
]
