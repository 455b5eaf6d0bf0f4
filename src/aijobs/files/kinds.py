"""Which content a file of an extension may have, by what libmagic says of its first bytes."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from aijobs.files.libmagic import UNKNOWN, load_libmagic

#: So many first bytes are looked at: Office files name what they hold behind a preview, recordings behind a cover.
HEAD_BYTES = 262_144

#: So many of a text. libmagic tries patterns on it that take half a second for 8 KiB of spaces.
_TEXT_BYTES, _ASKED_TEXT_BYTES = 4_096, 1_024


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file of some extension holds."""

    content_type: str
    #: What libmagic may say of it: MIME types, and descriptions of what it has no type for. None is any text.
    said: tuple[str, ...] | None = None
    #: A folder that a ZIP file of this kind has.
    folder: bytes = b""

    def fits(self, head: bytes) -> bool:
        """Whether a file may begin with these bytes."""
        if self.said is None:
            return _is_text(head)
        found = _type_of(head)
        return self.folder in head and _matches(_description_of(head) if found == UNKNOWN else found, self.said)


def content_type(extension: str, head: bytes) -> str | None:
    """The content type of a file, or None when its bytes are not what its extension says, or those of a program.

    Args:
        extension: as `keys.extension_of` gives it.
        head: its first `HEAD_BYTES` bytes, or all of them.

    Raises:
        ConfigurationError: libmagic is not there.
    """
    kind = KINDS.get(extension)
    if kind is not None:
        return kind.content_type if kind.fits(head) else None
    if _matches(_description_of(head), _PROGRAMS):
        return None
    found = _type_of(head)
    return UNKNOWN if found == _DOS_PROGRAM or not head else found


def _type_of(head: bytes) -> str:
    return load_libmagic().type_of(_asked(head))


def _description_of(head: bytes) -> str:
    return load_libmagic().description_of(_asked(head))


def _asked(head: bytes) -> bytes:
    return head[:_ASKED_TEXT_BYTES] if _is_text(head) else head


def _matches(found: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(found, pattern) for pattern in patterns)


def _is_text(head: bytes) -> bool:
    """No control characters but those of lines; any encoding that keeps ASCII as it is, or UTF-16 with its mark."""
    begin = head[:_TEXT_BYTES]
    if not begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return not _CONTROLS.intersection(begin)
    try:
        text = codecs.getincrementaldecoder("utf-16")().decode(begin)
    except UnicodeDecodeError:
        return False
    return not _CONTROLS.intersection(map(ord, text))


def _office(name: str, folder: bytes) -> Kind:
    """Office Open XML; libmagic does not always look far enough to tell its kinds apart."""
    return Kind(f"{_OOXML}{name}", (f"{_OOXML}{name}", "application/zip", *_ZIP), folder)


def _old_office(name: str) -> Kind:
    return Kind(name, (name, "application/CDFV2*", "application/x-ole-storage", "application/vnd.ms-office", *_OLE))


def _same(name: str) -> Kind:
    return Kind(name, (name,))


#: Descriptions of what a machine would run: Windows, Linux, macOS, Java, WebAssembly. Scripts are text.
_PROGRAMS = ("MS-DOS executable*", "PE32*", "ELF *", "Mach-O *", "compiled Java class*", "WebAssembly*")
#: Of every hundred files with random bytes, libmagic takes one for a command of DOS.
_DOS_PROGRAM = "application/x-dosexec"
_WINDOWS_PROGRAM = "application/vnd.microsoft.portable-executable"
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\r\f\b\x1b")
_OLE = ("OLE 2 Compound Document*", "Composite Document File*")
_ZIP = ("Microsoft OOXML*", "Zip archive*")
_OOXML = "application/vnd.openxmlformats-officedocument."
_ODF = "application/vnd.oasis.opendocument."
#: Of a tag that is longer than the head, libmagic does not say what it belongs to.
_TAG = "Audio file with ID3*"
_ISO_MEDIA = ("audio/mp4", "audio/x-m4a", "video/mp4", "video/x-m4v", "video/quicktime", "*/3gpp*", "ISO Media*")
_JPEG = _same("image/jpeg")
_TIFF = _same("image/tiff")
_OGG = Kind("audio/ogg", ("*/*ogg", "audio/*opus*", "Ogg data*"))

_TEXTS = {
    ".csv": "text/csv",
    ".htm": "text/html",
    ".html": "text/html",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".rst": "text/x-rst",
    ".srt": "application/x-subrip",
    ".tex": "text/x-tex",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
    ".vtt": "text/vtt",
    ".xml": "application/xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
_DOCUMENTS = {
    ".doc": _old_office("application/msword"),
    ".docx": _office("wordprocessingml.document", b"word/"),
    ".epub": _same("application/epub+zip"),
    ".odp": _same(f"{_ODF}presentation"),
    ".ods": _same(f"{_ODF}spreadsheet"),
    ".odt": _same(f"{_ODF}text"),
    ".pdf": _same("application/pdf"),
    ".ppt": _old_office("application/vnd.ms-powerpoint"),
    ".pptx": _office("presentationml.presentation", b"ppt/"),
    ".rtf": Kind("application/rtf", ("application/rtf", "text/rtf")),
    ".xls": _old_office("application/vnd.ms-excel"),
    ".xlsx": _office("spreadsheetml.sheet", b"xl/"),
}
_IMAGES = {
    ".avif": Kind("image/avif", ("image/avif*", "image/heif*")),
    ".bmp": Kind("image/bmp", ("image/bmp", "image/x-ms-bmp")),
    ".gif": _same("image/gif"),
    ".heic": Kind("image/heic", ("image/heic*", "image/heif*")),
    ".jpeg": _JPEG,
    ".jpg": _JPEG,
    ".png": Kind("image/png", ("image/png", "image/apng", "image/vnd.mozilla.apng")),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".webp": _same("image/webp"),
}
_RECORDINGS = {
    ".flac": Kind("audio/flac", ("audio/flac", "audio/x-flac", _TAG)),
    ".m4a": Kind("audio/mp4", _ISO_MEDIA),
    ".mp3": Kind("audio/mpeg", ("audio/mpeg", _TAG)),
    ".mp4": Kind("video/mp4", _ISO_MEDIA),
    ".ogg": _OGG,
    ".opus": _OGG,
    ".wav": Kind("audio/wav", ("audio/wav", "audio/x-wav", "audio/vnd.wave")),
    ".webm": Kind("video/webm", ("*/webm", "*/x-matroska")),
}
#: Known, but taken only where a parameter asks for them.
_OTHERS = {
    ".exe": Kind(_WINDOWS_PROGRAM, (_DOS_PROGRAM, _WINDOWS_PROGRAM)),
    ".gz": Kind("application/gzip", ("application/gzip", "application/x-gzip")),
    ".parquet": Kind("application/vnd.apache.parquet", ("application/vnd.apache.parquet", "Apache Parquet*")),
    ".svg": Kind("image/svg+xml"),
    ".tar": Kind("application/x-tar", ("application/x-tar", "application/x-gtar")),
    ".zip": Kind(
        "application/zip",
        (*_ZIP, "application/zip", "*+zip", "application/java-archive", "*.package-archive", f"{_OOXML}*", f"{_ODF}*"),
    ),
}
_USUAL = {**{one: Kind(name) for one, name in _TEXTS.items()}, **_DOCUMENTS, **_IMAGES, **_RECORDINGS}

#: By extension.
KINDS: Mapping[str, Kind] = {**_USUAL, **_OTHERS}

#: What a parameter takes that does not say: documents, text, images and recordings.
USUAL_EXTENSIONS = frozenset(_USUAL)
