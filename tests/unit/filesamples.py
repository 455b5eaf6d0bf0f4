"""Small files of every kind, as the programs make them that people use."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import wave
import zipfile
import zlib
from collections.abc import Mapping

_OOXML_FIRST = ("[Content_Types].xml", "_rels/.rels")
_BRANDS = b"\0\0\2\0isomiso2mp41"


def zipped(*names: str, stored: str = "") -> bytes:
    """A ZIP file with such members; a first one that holds what is `stored`, as it is."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        if stored:
            archive.writestr("mimetype", stored, zipfile.ZIP_STORED)
        for name in names:
            archive.writestr(name, f"<{name}/>" * 20)
    return out.getvalue()


def opendocument(kind: str) -> bytes:
    return zipped("content.xml", stored=f"application/vnd.oasis.opendocument.{kind}")


def iso_media(brand: bytes) -> bytes:
    return b"\0\0\0\x1cftyp" + brand + _BRANDS + b"\0\0\0\x08free\0\0\0\x10mdat" + bytes(8)


def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(4))) + chunk(b"IEND", b"")


def bmp() -> bytes:
    pixels = bytes(4)
    head = struct.pack("<IiiHHIIiiII", 40, 1, 1, 1, 24, 0, len(pixels), 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(pixels), 0, 0, 54) + head + pixels


def recording() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(bytes(200))
    return out.getvalue()


def tagged(size: int) -> bytes:
    """MPEG audio behind an ID3 tag of so many bytes, such as a cover."""
    length = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + length + bytes(size) + mpeg_audio()


def mpeg_audio() -> bytes:
    return (b"\xff\xfb\x90\x64" + bytes(413)) * 3


def ogg(codec: bytes) -> bytes:
    return b"OggS\0\x02" + bytes(8) + b"\1\0\0\0" + bytes(8) + b"\1" + bytes([len(codec) + 8]) + codec + bytes(8)


def matroska(kind: bytes) -> bytes:
    elements = b"B\x86\x81\1B\xf7\x81\1B\xf2\x81\4B\xf3\x81\x08B\x82" + bytes([0x80 | len(kind)]) + kind
    return b"\x1a\x45\xdf\xa3" + bytes([0x80 | len(elements)]) + elements + b"\x18\x53\x80\x67"


def tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"), io.BytesIO())
    return out.getvalue()


def windows_program() -> bytes:
    dos = b"MZ\x90\0\3\0\0\0\4\0\0\0\xff\xff\0\0" + bytes(44) + struct.pack("<I", 64)
    return dos + b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 240, 0x22) + b"\x0b\x02" + bytes(300)


#: Programs of each machine.
PROGRAMS: Mapping[str, bytes] = {
    "Windows": windows_program(),
    "Linux": b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 64, 64, 0, 0, 64, 56, 0, 64, 0, 0),
    "Linux, cut off": b"\x7fELF\x02\x01\x01",
    "a library of Linux": b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQI", 3, 62, 1, 64, 64, 0, 0) + bytes(12),
    "macOS": b"\xcf\xfa\xed\xfe\x07\0\0\1\3\0\0\0\2\0\0\0" + bytes(16),
    "macOS, of two machines": b"\xca\xfe\xba\xbe\0\0\0\2\1\0\0\7\0\0\0\3" + bytes(40),
    "Java": b"\xca\xfe\xba\xbe\0\0\0\x34\0\x10" + bytes(20),
    "WebAssembly": b"\0asm\1\0\0\0",
}

_COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + b"\x3e\0\3\0\xfe\xff\x09\0\6\0" + bytes(600)
_TIFF = {"little": b"II*\0\x08\0\0\0\0\0", "big": b"MM\0*\0\0\0\x08\0\0"}
_JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xdb\0\x43\0"
_FLAC = b"fLaC\0\0\0\x22\x10\0\x10\0" + bytes(6) + b"\x0a\xc4\x42\xf0" + bytes(20)

#: By extension, some files of that kind.
SAMPLES: Mapping[str, list[bytes]] = {
    ".avif": [iso_media(b"avif"), iso_media(b"mif1")],
    ".bmp": [bmp()],
    ".doc": [_COMPOUND],
    ".docx": [
        zipped(*_OOXML_FIRST, "word/document.xml"),
        zipped("_rels/.rels", "docProps/core.xml", "docProps/app.xml", "word/document.xml", "[Content_Types].xml"),
        zipped("customXml/item1.xml", *_OOXML_FIRST, "word/document.xml"),
        zipped("word/document.xml", *_OOXML_FIRST),
    ],
    ".epub": [zipped("META-INF/container.xml", stored="application/epub+zip")],
    ".exe": [PROGRAMS["Windows"]],
    ".flac": [_FLAC, tagged(300_000)],
    ".gif": [b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff;", b"GIF87a\1\0\1\0\x80\0\0"],
    ".gz": [gzip.compress(b"x")],
    ".heic": [iso_media(b"heic"), iso_media(b"heix"), iso_media(b"mif1")],
    ".jpeg": [_JPEG],
    ".jpg": [_JPEG, b"\xff\xd8\xff\xe1\0\x18Exif\0\0" + _TIFF["big"], b"\xff\xd8\xff\xdb\0\x43\0" + bytes(64)],
    ".m4a": [iso_media(b"M4A "), iso_media(b"mp42"), iso_media(b"isom")],
    ".mp3": [mpeg_audio(), b"\xff\xf3\x84\xc4" + bytes(400), tagged(1_000), tagged(300_000)],
    ".mp4": [iso_media(brand) for brand in (b"isom", b"mp41", b"mp42", b"iso5", b"avc1", b"dash", b"M4V ", b"cmfc")],
    ".odp": [opendocument("presentation")],
    ".ods": [opendocument("spreadsheet")],
    ".odt": [opendocument("text")],
    ".ogg": [ogg(b"\1vorbis"), ogg(b"\x7fFLAC"), ogg(b"\x80theora")],
    ".opus": [ogg(b"OpusHead\1\2")],
    ".parquet": [b"PAR1\x15\4\x15\x18" + bytes(20) + b"PAR1"],
    ".pdf": [b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", b"%PDF-1.4\n1 0 obj\n", b"junk\n%PDF-1.4\n1 0 obj\n"],
    ".png": [png()],
    ".ppt": [_COMPOUND],
    ".pptx": [
        zipped(*_OOXML_FIRST, "ppt/presentation.xml"),
        zipped("docProps/thumbnail.jpeg", *_OOXML_FIRST, "ppt/presentation.xml"),
    ],
    ".rtf": [b"{\\rtf1\\ansi Hello}"],
    ".svg": [b"<svg/>", b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'],
    ".tar": [tar()],
    ".tif": [_TIFF["little"]],
    ".tiff": [_TIFF["big"]],
    ".wav": [recording(), b"RF64\xff\xff\xff\xffWAVEds64" + bytes(30)],
    ".webm": [matroska(b"webm"), matroska(b"matroska")],
    ".webp": [b"RIFF\x24\0\0\0WEBPVP8 " + bytes(28), b"RIFF\x24\0\0\0WEBPVP8L" + bytes(28)],
    ".xls": [_COMPOUND],
    ".xlsx": [
        zipped(*_OOXML_FIRST, "xl/workbook.xml"),
        zipped("docProps/app.xml", "docProps/core.xml", "xl/theme/theme1.xml", "[Content_Types].xml"),
    ],
    ".zip": [
        zipped("a.txt"),
        zipped("META-INF/MANIFEST.MF"),
        zipped(*_OOXML_FIRST, "word/document.xml"),
        b"PK\5\6" + bytes(18),
    ],
}
