"""Which files a parameter takes."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from aijobs.errors import ConfigurationError
from aijobs.files.keys import extension_of
from aijobs.files.kinds import USUAL_EXTENSIONS, content_type

_EXTENSION = re.compile(r"\.[a-z0-9]{1,10}", re.ASCII)
_CONTENT_TYPE = re.compile(r"[a-z]+/[a-z0-9.+*-]+", re.ASCII)


class Reason(StrEnum):
    """Why a file was refused."""

    #: It is larger than the parameter takes.
    TOO_LARGE = "too_large"
    #: The parameter does not take its extension or its type, or its bytes are something else.
    WRONG_TYPE = "wrong_type"
    #: It has no bytes.
    EMPTY = "empty"


class FileRefused(Exception):
    """A file is not taken; the text says why, for the client."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class FileRules:
    """Which files a parameter takes, as in `Annotated[UploadedFile, FileRules(extensions={".pdf"})]`.

    Raises:
        ConfigurationError: an extension, a size or a content type cannot be one; the message names it.
    """

    #: With their dots; None takes any, and files without one. By default documents, text, images and recordings.
    extensions: Collection[str] | None = USUAL_EXTENSIONS
    #: The size of one file, bytes; None is `AIJOBS_FILE_BYTES`.
    max_bytes: int | None = None
    #: Content types as the file's bytes tell, such as `image/*`; None takes what the extensions allow.
    content_types: Collection[str] | None = None

    def __post_init__(self) -> None:
        if self.max_bytes is not None and self.max_bytes < 1:
            raise ConfigurationError(f"FileRules(max_bytes={self.max_bytes!r}): at least 1 is needed.")
        # Lists and sets alike, and such that the rules can be compared and hashed, as annotations are.
        for name, pattern, example in (("extensions", _EXTENSION, ".pdf"), ("content_types", _CONTENT_TYPE, "image/*")):
            object.__setattr__(self, name, _checked(name, getattr(self, name), pattern, example))

    def check_name(self, name: str) -> None:
        """Lets a file pass by its name.

        Raises:
            FileRefused: its extension is not taken.
        """
        extension = extension_of(name)
        if self.extensions is None or extension in self.extensions:
            return
        given = f"{extension} files are not taken" if extension else "the file's name has no extension"
        raise FileRefused(Reason.WRONG_TYPE, f"{given[0].upper()}{given[1:]}. Send one of {self._listed()}.")

    def check_content(self, name: str, head: bytes) -> str:
        """The content type of a file by its first bytes.

        Raises:
            FileRefused: it is not what its name says, or its type is not taken.
            ConfigurationError: libmagic is not there.
        """
        extension = extension_of(name)
        found = content_type(extension, head)
        if found is None:
            what = f"what a {extension} file begins with" if extension else "data, but a program"
            raise FileRefused(Reason.WRONG_TYPE, f"The file's content is not {what}.")
        if self.content_types is not None and not any(fnmatchcase(found, one) for one in self.content_types):
            taken = ", ".join(sorted(self.content_types))
            raise FileRefused(Reason.WRONG_TYPE, f"Files of type {found} are not taken. Send one of {taken}.")
        return found

    def _listed(self) -> str:
        return ", ".join(sorted(self.extensions or ()))


def _checked(
    name: str, values: Collection[str] | None, pattern: re.Pattern[str], example: str
) -> frozenset[str] | None:
    if values is None:
        return None
    # A text is a collection of its letters.
    given = frozenset({values} if isinstance(values, str) else values)
    wrong = sorted(repr(one) for one in given if not pattern.fullmatch(str(one)))
    if wrong or not given:
        problem = f"{', '.join(wrong)} cannot be one" if wrong else "it must not be empty"
        raise ConfigurationError(f"FileRules({name}=…): {problem}; give a set such as {{{example!r}}}.")
    return given
