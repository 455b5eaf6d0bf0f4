"""libmagic, which tells what is in a file; by python-magic."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from aijobs.errors import ConfigurationError

if TYPE_CHECKING:
    from magic import Magic

UNKNOWN = "application/octet-stream"

#: What pylibmagic changes in the environment.
_CHANGED = ("LIBRARY_PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "MAGIC")


@dataclass(frozen=True, slots=True)
class Libmagic:
    """libmagic as it is loaded; threads may share it."""

    types: Magic
    descriptions: Magic

    def type_of(self, head: bytes) -> str:
        """The MIME type of what begins with these bytes."""
        return _ask(self.types, head) or UNKNOWN

    def description_of(self, head: bytes) -> str:
        """What begins with these bytes, in words; it tells more things apart than there are types for."""
        return _ask(self.descriptions, head)


@cache
def load_libmagic() -> Libmagic:
    """The system's libmagic, which gets its security updates; where there is none, the one that pylibmagic brings.

    Raises:
        ConfigurationError: python-magic or libmagic is not there; the message says what to install.
    """
    try:
        return _load()
    except (ImportError, OSError):
        pass
    try:
        with _process_unchanged():
            import pylibmagic  # noqa: F401

            return _load()
    except (ImportError, OSError) as error:
        raise _unfit(str(error)) from error


def _load() -> Libmagic:
    import magic

    try:
        return Libmagic(magic.Magic(mime=True), magic.Magic())
    except AttributeError as error:
        raise _unfit("the module `magic` is not that of python-magic") from error
    except magic.MagicException as error:
        raise _unfit(f"libmagic does not find its database, {error}") from error


def _unfit(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"Files cannot be told apart: {why}. Run pip install 'aijobs[uploads]'; where that brings no libmagic, as on "
        "Linux for ARM, install the system's as well, such as by apt-get install libmagic1."
    )


@contextmanager
def _process_unchanged() -> Iterator[None]:
    """Undoes what pylibmagic does to the process: its children would look for libraries in their working directory."""
    environment = {name: os.environ.get(name) for name in _CHANGED}
    load_library = ctypes.CDLL.__init__
    try:
        yield
    finally:
        ctypes.CDLL.__init__ = load_library  # type: ignore[method-assign]
        # Who imports it later gets what he asks for.
        sys.modules.pop("pylibmagic", None)
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _ask(library: Magic, head: bytes) -> str:
    """What libmagic says; nothing where it gives up, as on what was made to lead it in circles."""
    from magic import MagicException

    try:
        # A single byte is no text to libmagic.
        return str(library.from_buffer(head.ljust(2, b"\n")))
    except MagicException:
        return ""
