"""From `AIJOBS_FILES_URL` to a file store."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from aijobs.errors import ConfigurationError
from aijobs.files.folder import FolderStore, default_folder
from aijobs.files.store import FileStore


@cache
def open_files(url: str | None) -> FileStore:
    """The file store at a URL; one for each URL and process.

    Args:
        url: an absolute path, a `file://` URL, or a URL that fsspec reads; None is a folder of this user's below the
            system's temporary folder.

    Raises:
        ConfigurationError: the URL cannot be used; the message says why.
    """
    if url is None:
        return FolderStore(default_folder(), private=True)
    parts = urlsplit(url)
    if "://" in url and parts.scheme != "file":
        from aijobs.files.bucket import FsspecStore

        return FsspecStore(url)
    folder = Path(unquote(parts.path) if "://" in url else url)
    if not folder.is_absolute() or ("://" in url and parts.netloc not in ("", "localhost")):
        raise ConfigurationError(
            f"AIJOBS_FILES_URL={url!r} is wrong: give an absolute path, which means the same to the API and the "
            "workers, or a URL such as file:///srv/files or s3://bucket/folder."
        )
    return FolderStore(folder)
