"""Asks one question over HTTP, and prints what the agent does while it does it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape

from document_ingestion.demo_events import Event, follow
from document_ingestion.demo_processes import DemoError, Service

#: How long one request may take, in seconds; the first one waits until the API has started.
REQUEST_SECONDS = 30.0


def ask(url: str, question: str, console: Console, services: Sequence[Service]) -> None:
    """Submits a question, prints its log and its report as they come, and cancels it when the demo is stopped.

    Args:
        url: the API's.
        question: what is asked.
        console: where to print.
        services: looked after meanwhile, so that nobody waits for one that has ended.

    Raises:
        DemoError: the question was refused, the job failed, or a process ended.
    """
    with httpx.Client(base_url=url, timeout=REQUEST_SECONDS) as client:
        job = _submit(client, question, services)
        console.print(f"  POST /jobs/research: accepted as job {job['job_id']}\n")
        screen = Screen(console)
        with _cancelled_with_us(client, job["urls"]["cancel"]):
            for event in follow(client, job["urls"]["events"], lambda: _look_after(services)):
                screen.show(event)
    if event.data["status"] != "success":
        raise DemoError(f"The job ended as {event.data['status']}: {(event.data['error'] or {}).get('message')}")
    result = event.data["result"]
    tokens = f"{result['prompt_tokens']} tokens read, {result['completion_tokens']} written"
    console.print(f"\n\n[dim]{event.data['metrics']['run_seconds']:.1f} s in the last attempt; {tokens}[/]")


def _submit(client: httpx.Client, question: str, services: Sequence[Service]) -> dict[str, Any]:
    try:
        response = client.post("/jobs/research", json={"question": question})
    except httpx.TransportError as error:
        _look_after(services, patience=1)
        raise DemoError(f"POST /jobs/research got no answer ({type(error).__name__}).") from error
    if response.is_error:
        raise DemoError(f"POST /jobs/research was answered {response.status_code}: {response.text[:500]}")
    job: dict[str, Any] = response.json()
    return job


@contextmanager
def _cancelled_with_us(client: httpx.Client, url: str) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        with suppress(httpx.HTTPError):
            client.post(url)
        raise


def _look_after(services: Sequence[Service], patience: float = 0) -> None:
    for service in services:
        service.check(patience)


@dataclass(slots=True)
class Screen:
    """Prints events: lines for what is done, and the report as it is written."""

    console: Console
    #: Whether the line that is printed is not at its end yet.
    open: bool = False

    def show(self, event: Event) -> None:
        """Prints an event, if it is one for people."""
        data = event.data
        match event.name:
            case "job.output" if "text" in data:
                self.console.print(data["text"], end="", markup=False)
                self.open = True
            case "job.snapshot" | "stream.gap":
                self._catch_up(data)
            case "job.log":
                self._line(
                    " · ".join([data["message"], *(f"{name} {value}" for name, value in data["fields"].items())])
                )
            case "job.attempt":
                self._line(f"begins again (attempt {data['attempt']}); finished steps are kept")
            case "job.status" if data.get("error_code"):
                due = data.get("scheduled_at")
                self._line(f"{data['status']}: {data['error_code']}{f', until {due[11:19]} UTC' if due else ''}")

    def _catch_up(self, job: dict[str, Any]) -> None:
        for piece in (job["output"] or {}).get("pieces", ()):
            self.show(Event("job.output", piece, ""))

    def _line(self, text: str) -> None:
        self.console.print(f"{chr(10) if self.open else ''}  [dim]{escape(text)}[/]")
        self.open = False
