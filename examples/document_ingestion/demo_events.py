"""Follows a job's live event stream and shows how far it has come."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

#: How often to look whether everything still runs while no event comes, in seconds.
QUIET_SECONDS = 2.0
#: How often a line is printed where no bar can be drawn, in seconds.
LINE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    name: str
    data: dict[str, Any]
    id: str


def read_events(lines: Iterable[str]) -> Iterator[Event]:
    """Reads events from the lines of a `text/event-stream`, as the WHATWG HTML standard describes it."""
    fields: dict[str, str] = {}
    last_id = ""
    for line in lines:
        name, _, value = line.partition(":")
        if name:
            fields[name] = value.removeprefix(" ")
        elif not line and "data" in fields:
            last_id = fields.get("id", last_id)
            yield Event(fields.get("event", "message"), json.loads(fields["data"]), last_id)
        if not line:
            fields = {}


class Watch(Protocol):
    """What is looked at while no event comes."""

    def __call__(self) -> None:
        """Raises an error when the job cannot go on."""


def follow(client: httpx.Client, url: str, watch: Watch) -> Iterator[Event]:
    """Yields the job's events up to `job.completed`; goes on after the last one when the stream breaks."""
    headers: dict[str, str] = {}
    while True:
        try:
            with client.stream("GET", url, headers=headers, timeout=QUIET_SECONDS) as response:
                response.raise_for_status()
                for event in read_events(response.iter_lines()):
                    headers["Last-Event-ID"] = event.id
                    yield event
                    if event.name == "job.completed":
                        return
        except httpx.TransportError:  # silence, or a connection that broke
            pass
        watch()


@dataclass(slots=True)
class ProgressView:
    """A progress bar in a terminal, and a line now and then everywhere else."""

    console: Console
    _bar: Progress = field(init=False)
    _next_line: float = 0.0

    def __post_init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
        self._bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._bar.add_task("ingesting", total=None, text="waiting for the worker")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, detail: dict[str, Any]) -> None:
        """Shows a `progress_detail`, as the job routes and events have it."""
        text = describe(detail)
        self._bar.update(self._bar.task_ids[0], completed=detail["current"], total=detail["total"], text=text)
        done = detail["current"] == detail["total"]
        if self._bar.disable and (done or time.monotonic() >= self._next_line):
            self._next_line = time.monotonic() + LINE_SECONDS
            self.console.print(f"  {text}")


def describe(detail: dict[str, Any]) -> str:
    """How far, how fast and how much longer, as far as it is known."""
    if not detail["total"]:
        return f"{detail['step'] or 'start'} …"
    parts = [f"{detail['current'] or 0:.0f}/{detail['total']:.0f} {detail['unit'] or ''}".rstrip()]
    if detail["rate"]:
        parts.append(f"{detail['rate']:.0f}/s")
    if detail["eta_seconds"] is not None and detail["current"] != detail["total"]:
        parts.append(f"ETA {detail['eta_seconds']:.0f} s")
    return "  ".join(parts)
