"""Secrets taken out of texts that a record keeps, such as exceptions of clients that repeat the address they called.

A record is read by clients and shown in logs. What looks like a secret is replaced; where it stood can still be seen.
"""

from __future__ import annotations

import re

#: What stands in place of a secret.
HIDDEN = "***"


_NAMES = (
    r"(?:x-)?(?:goog-)?api[-_]?key|apikey|(?:access|auth|refresh|id|session|bearer|security)[-_]?token|"
    r"(?:client|api|app|signing|webhook|shared)?[-_]?secret(?:[-_]?(?:access[-_]?)?key)?|password|passwd|pwd|"
    r"private[-_]?key|credentials?"
)
#: In the query of an address shorter names mean the same.
_QUERY_NAMES = rf"(?:[\w.-]{{0,60}}[-_.])?(?:{_NAMES}|key|token|auth|sig|signature|pass|code|credential|session)"

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # https://user:password@host
    (re.compile(r"(?<=://)[^\s/?#'\"<>]{1,500}@"), f"{HIDDEN}@"),
    # ?key=…
    (re.compile(rf"([?&;]{_QUERY_NAMES}=)[^\s&#;'\"<>)\]}}]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    # Authorization: Bearer …, 'authorization': 'Basic …'
    (
        re.compile(
            r"(\b(?:proxy-)?authorization['\"]?\s{0,5}[:=,]\s{0,5}(?:b?['\"])?)(?:(?:bearer|basic|token|digest)\s{1,5})?"
            r"[^\s'\",;)}\]]+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"\b(bearer\s{1,5})[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1{HIDDEN}"),
    # api_key="…", 'x-api-key': '…', password=…
    (
        re.compile(
            rf"((?:{_NAMES})['\"]?\s{{0,5}}[:=,]\s{{0,5}}b?(['\"]))(?:(?!\2)[^\n\\]|\\.)+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    (
        re.compile(
            rf"((?:{_NAMES})\s{{0,5}}[:=]\s{{0,5}})[^\s'\",;:()\[\]{{}}<>&]{{4,}}",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    # Keys that can be told by how they begin.
    (
        re.compile(
            r"(?<![A-Za-z0-9])sk[-_](?=[A-Za-z_-]{0,60}[0-9*])[A-Za-z0-9*_-]{8,}"
            r"|(?<![A-Za-z0-9])(?:gsk|hf|pk|r8|rk|xai|pplx|nvapi|tgp|glpat|npm|pypi|whsec)[-_][A-Za-z0-9_-]{20,}"
            r"|(?<![A-Za-z0-9])(?:gh[opsur]_|github_pat_)[A-Za-z0-9_]{20,}"
            r"|(?<![A-Za-z0-9])xox[abeprs]-[A-Za-z0-9-]{8,}"
            r"|(?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{30,}"
            r"|(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"
            r"|(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*"
        ),
        HIDDEN,
    ),
    (re.compile(r"(-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----)[^-]+"), rf"\1{HIDDEN}"),
)


def redact(text: str) -> str:
    """A text without what looks like a secret."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
