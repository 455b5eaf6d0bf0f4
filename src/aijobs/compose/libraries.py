"""The libraries of the system that an app's Python packages load when they run."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Tells what is in an uploaded file. A wheel brings it for some machines only; the distribution's gets its updates.
LIBMAGIC = "libmagic1"

#: aijobs with its uploads, by name or from a file or folder, or what they are made with, as lock files have it.
_WITH_UPLOADS = re.compile(
    r"(?:^|[\s/])aijobs(?:-[0-9][^/\[\]]*)?\s*\[[^\]]*\buploads\b[^\]]*\]|^python[-_.]+magic(?![A-Za-z0-9._-])",
    re.IGNORECASE,
)


def libraries(requirements: Iterable[str]) -> tuple[str, ...]:
    """The packages of Debian and Ubuntu that have the libraries.

    Args:
        requirements: what the app depends on, as requirements files or lock files name it.
    """
    return (LIBMAGIC,) if any(map(_WITH_UPLOADS.search, requirements)) else ()
