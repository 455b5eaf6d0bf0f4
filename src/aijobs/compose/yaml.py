"""Writes YAML that people read: comments above what they are about, and text that no parser takes for anything else."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, Union

WIDTH = 100

# What needs no quotes in any version of YAML. Words such as `no` and numbers are text only in quotes.
_PLAIN = re.compile(
    r"[1-9][0-9]*(?:s|m|M|G|Gi|Mi)|[A-Za-z/][A-Za-z0-9_./-]*|[A-Za-z][A-Za-z0-9_./-]*:[A-Za-z0-9_./-]*[A-Za-z_./-][A-Za-z0-9_./-]*"
)
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


@dataclass(frozen=True, slots=True)
class Note:
    """A value with a comment above it."""

    comment: str
    value: Node


@dataclass(frozen=True, slots=True)
class Anchor:
    """A value that has a name, by which others refer to it."""

    name: str
    value: Node


@dataclass(frozen=True, slots=True)
class Alias:
    """What an anchor of this name stands for. As the key `<<`, its entries become the mapping's own."""

    name: str


Scalar: TypeAlias = str | int | float | bool | None
Node: TypeAlias = Union[Scalar, "Sequence[Node]", "Mapping[str, Node]", Note, Anchor, Alias]


def dump(document: Mapping[str, Node], spaced: str | None = None) -> str:
    """A mapping as a YAML document; its entries are set apart by blank lines.

    Args:
        document: the mapping.
        spaced: the entry whose own entries are set apart as well.
    """
    blocks = [_block(key, value, is_spaced=key == spaced) for key, value in document.items()]
    return "\n\n".join(blocks) + "\n"


def _block(key: str, value: Node, *, is_spaced: bool) -> str:
    if is_spaced and isinstance(value, Mapping):
        blocks = ["\n".join(_entry(inner, one, "  ")) for inner, one in value.items()]
        return f"{scalar(key)}:\n" + "\n\n".join(blocks)
    return "\n".join(_entry(key, value, ""))


def comment(text: str, indent: str = "") -> Iterator[str]:
    """The lines of a comment."""
    for paragraph in text.split("\n"):
        for line in textwrap.wrap(paragraph, WIDTH - len(indent) - 2, break_long_words=False, break_on_hyphens=False):
            yield f"{indent}# {line}"


def scalar(value: Scalar) -> str:
    """A value on one line."""
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        # JSON's escapes are YAML's as well.
        return value if plain else json.dumps(value)
    return json.dumps(value)


def _entry(key: str, value: Node, indent: str) -> Iterator[str]:
    if isinstance(value, Note):
        yield from comment(value.comment, indent)
        yield from _entry(key, value.value, indent)
    else:
        name = key if key == "<<" else scalar(key)
        yield from _attached(f"{indent}{name}:", value, indent)


def _item(value: Node, indent: str) -> Iterator[str]:
    if isinstance(value, Note):
        yield from comment(value.comment, indent)
        yield from _item(value.value, indent)
    elif isinstance(value, Mapping) and value:
        first, *rest = _mapping(value, f"{indent}  ")
        # A comment of the first entry would stand between the dash and the entry.
        yield from [f"{indent}- {first.lstrip()}", *rest]
    else:
        yield from _attached(f"{indent}-", value, indent)


def _attached(head: str, value: Node, indent: str) -> Iterator[str]:
    """A value that follows a key or a dash."""
    if isinstance(value, Anchor):
        yield from _attached(f"{head} &{value.name}", value.value, indent)
    elif isinstance(value, Alias):
        yield f"{head} *{value.name}"
    elif isinstance(value, Mapping):
        yield from [head, *_mapping(value, f"{indent}  ")] if value else [f"{head} {{}}"]
    elif isinstance(value, str) and "\n" in value:
        yield f"{head} |"
        yield from (f"{indent}  {line}".rstrip() for line in value.rstrip("\n").split("\n"))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield from _sequence(head, value, indent)
    elif not isinstance(value, Note):
        yield f"{head} {scalar(value)}"


def _mapping(value: Mapping[str, Node], indent: str) -> Iterator[str]:
    for key, one in value.items():
        yield from _entry(key, one, indent)


def _sequence(head: str, items: Sequence[Node], indent: str) -> Iterator[str]:
    """On one line where it fits, as commands and the like are easiest to read."""
    flow = [_in_flow(one) for one in items]
    line = f"{head} [{', '.join(one or '' for one in flow)}]"
    if all(flow) and len(line) <= WIDTH:
        yield line
        return
    yield head
    for one in items:
        yield from _item(one, f"{indent}  ")


def _in_flow(value: Node) -> str | None:
    """A value between brackets; None where it needs lines of its own."""
    if isinstance(value, Alias):
        return f"*{value.name}"
    if isinstance(value, str):
        return None if "\n" in value else json.dumps(value)
    return json.dumps(value) if isinstance(value, int | float | None) else None
