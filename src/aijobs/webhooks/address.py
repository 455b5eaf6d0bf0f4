"""Which addresses a webhook may have: what their text says, before anything is looked up.

The text is read once, and what was read is what is connected to, so no second reader can take it for something else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from aijobs.errors import InvalidWebhook

#: The longest address, in characters.
MAX_URL_LENGTH = 2_048

_URL = re.compile(r"([A-Za-z]+)://([^/?#]*)([/?][^#]*)?")
_TARGET = re.compile(r"[!$%&'()*+,./0-9:;=?@A-Z_a-z~-]*")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
#: What a resolver may take for a number, and thereby the host for an IPv4 address; no top-level domain is like that.
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
#: Names that mean something inside a network or machine only (RFC 6761, 6762, 8375 and common use).
_INSIDE = re.compile(
    r"(?:^|\.)(?:localhost|local|localdomain|internal|intranet|private|corp|home|lan|home\.arpa|in-addr\.arpa|ip6\.arpa)$"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address, read: what to connect to, and what to ask for there."""

    scheme: str
    #: In ASCII, in lower case.
    host: str
    port: int
    #: Path and query.
    target: str = field(repr=False)

    @property
    def is_literal(self) -> bool:
        """Whether the host is an IPv4 address and no name, as only development allows."""
        return _is_ipv4(self.host)


def check_url(url: str, allow_private: bool = False) -> None:
    """Checks what can be told of an address without looking anything up.

    Args:
        url: where a webhook is to be sent.
        allow_private: whether plain HTTP, IPv4 addresses and names without a dot are allowed, as in development.

    Raises:
        InvalidWebhook: it is not allowed; the text says why and does not repeat it.
    """
    read_url(url, allow_private)


def read_url(url: str, allow_private: bool = False) -> Endpoint:
    """Reads an address that is allowed.

    Raises:
        InvalidWebhook: it is not allowed; the text says why and does not repeat it.
    """
    _require(len(url) <= MAX_URL_LENGTH, f"is longer than {MAX_URL_LENGTH:,} characters")
    _require("#" not in url, "has a fragment (#), which is never sent")
    found = _URL.fullmatch(url)
    if found is None:
        raise InvalidWebhook(_TEXT.format("is no absolute URL"))
    scheme, authority, target = found[1].lower(), found[2], found[3] or ""
    _require(scheme == "https" or (allow_private and scheme == "http"), "does not begin with https://")
    _require("@" not in authority, "has a user name or password in it")
    _require(not set("[]%\\") & set(authority), "has a host that is no plain name")
    _require(bool(_TARGET.fullmatch(target)), "has characters in its path or query that must be percent-encoded")
    name, colon, port = authority.partition(":")
    target = target if target.startswith("/") else f"/{target}"
    return Endpoint(scheme, _read_host(name, allow_private), _read_port(scheme, colon, port), target)


def _read_port(scheme: str, colon: str, port: str) -> int:
    if not colon:
        return 443 if scheme == "https" else 80
    _require(bool(re.fullmatch(r"[0-9]{1,5}", port)) and 1 <= int(port) <= 65_535, "has a port that is not 1 to 65535")
    return int(port)


def _read_host(name: str, allow_private: bool) -> str:
    host = _to_ascii(name).lower()
    if allow_private and _is_ipv4(host):
        return host
    labels = host.split(".")
    _require(not _NUMBER.fullmatch(labels[-1]), "has an IP address in place of a host name")
    _require(len(host) <= 253 and all(map(_LABEL.fullmatch, labels)), "has a host that is no host name")
    _require(allow_private or len(labels) > 1, "has a host name without a dot")
    _require(
        allow_private or not _INSIDE.search(host), "has a host name that means something in a private network only"
    )
    return host


def _to_ascii(name: str) -> str:
    if name.isascii():
        return name
    import idna

    try:
        # With the mapping that browsers use, so that what looks like another name is checked as that.
        return idna.encode(name, uts46=True, std3_rules=True).decode()
    except (idna.IDNAError, UnicodeError):
        raise InvalidWebhook(_TEXT.format("has a host that is no host name")) from None


def _is_ipv4(host: str) -> bool:
    try:
        IPv4Address(host)
    except ValueError:
        return False
    return True


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise InvalidWebhook(_TEXT.format(otherwise))


_TEXT = "The webhook's address {}. It must be like https://hooks.example.com/jobs: HTTPS, and a public host name."
