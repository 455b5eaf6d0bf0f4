"""Names of files: the key under which a store keeps one, and the client's name, which is for people only.

A key is `<space>/<shard>/<random><time>.<job>.<extension>`: the space keeps apps apart that share a folder, job and
time tell the sweep whose file it is and how old, and the extension is there for libraries that go by it.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
import unicodedata
from typing import Any
from urllib.parse import quote, unquote

#: The longest name that file systems take.
LONGEST_NAME_BYTES = 255

_LONGEST_OWNER = 150
_KEY = re.compile(
    r"[0-9a-f]{12}/(?P<shard>[0-9a-f]{2})/(?P=shard)[0-9a-f]{22}(?P<time>[0-9a-f]{8})"
    r"\.(?P<job>[A-Za-z0-9_.~%-]{1,150})\.[a-z0-9]{1,10}",
    re.ASCII,
)
_EXTENSION = re.compile(r"\.[a-z0-9]{1,10}", re.ASCII)
_NO_EXTENSION = ".bin"
#: Marks that reorder text, so that a name looks like another one; and the byte order mark.
_DECEIVING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
_INVISIBLE = frozenset({"Cc", "Cs", "Cn", "Co", "Zl", "Zp"})


def space_of(secret: bytes) -> str:
    """The space of the jobs in one store.

    Args:
        secret: that the processes of the store share.
    """
    return hashlib.sha256(b"aijobs files\n" + secret).hexdigest()[:12]


def new_key(space: str, job_id: str, extension: str = "") -> str:
    """A key that nobody can guess.

    Args:
        space: of the job's store.
        job_id: whose file it is.
        extension: as `extension_of` gives it.

    Raises:
        ValueError: the job's id is too long to be part of a name.
    """
    owner = quote(job_id, safe="")
    if not 0 < len(owner) <= _LONGEST_OWNER:
        raise ValueError(f"A job with files needs an id of 1 to {_LONGEST_OWNER} plain characters.")
    token = secrets.token_hex(12)
    return f"{space}/{token[:2]}/{token}{int(time.time()):08x}.{owner}{extension or _NO_EXTENSION}"


def check_key(key: str) -> str:
    """The key, when it has the form of one: nothing else ever becomes a path.

    Raises:
        ValueError: it has another form.
    """
    _parts(key)
    return key


def job_of(key: str) -> str:
    """The job whose file it is."""
    return unquote(_parts(key)["job"])


def age_of(key: str) -> float:
    """Seconds since the key was made."""
    return time.time() - int(_parts(key)["time"], 16)


def is_key(text: str) -> bool:
    """Whether a text has the form of a key."""
    return _KEY.fullmatch(text) is not None


def extension_of(name: str) -> str:
    """A name's extension in small letters with its dot; empty when there is none, or none worth the name."""
    stem, dot, last = name.rpartition(".")
    extension = f"{dot}{last}".lower()
    return extension if stem and _EXTENSION.fullmatch(extension) else ""


def clean_name(given: str) -> str:
    """A client's file name made harmless for people to look at: no folders, no invisible or reordering characters."""
    name = unicodedata.normalize("NFC", given).replace("\\", "/").rpartition("/")[2]
    shown = "".join(one for one in name if one not in _DECEIVING and unicodedata.category(one) not in _INVISIBLE)
    return _shortened(shown.strip().rstrip(". ")) or "file"


def _shortened(name: str) -> str:
    extension = name[len(name) - len(extension_of(name)) :]
    room = LONGEST_NAME_BYTES - len(extension.encode())
    stem = name.removesuffix(extension).encode()[:room].decode(errors="ignore")
    return stem + extension


def _parts(key: Any) -> re.Match[str]:
    found = _KEY.fullmatch(key) if isinstance(key, str) else None
    if found is None:
        raise ValueError("This is no key of a file.")
    return found
