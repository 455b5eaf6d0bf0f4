"""A client of the app, as a person at a terminal would want it. Everything goes over HTTP."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape

from document_ingestion.chunking import chunk_text
from document_ingestion.demo_events import ProgressView, follow
from document_ingestion.demo_processes import DemoError, Service
from document_ingestion.embedding import HashingEmbedder

#: As many broken documents are listed one by one.
MAX_FAILURES = 10
#: Answers are broken into lines of at most so many characters.
LINE_WIDTH = 96


@dataclass(frozen=True, slots=True)
class DemoClient:
    """Submits the job, watches it and asks questions.

    Attributes:
        services: looked after while the job runs, so that nobody waits for one that has ended.
    """

    client: httpx.Client
    console: Console
    services: Sequence[Service]

    def ingest(self, paths: Sequence[Path]) -> None:
        """Submits the job, shows its progress and prints its result; cancels it when the demo is stopped.

        Raises:
            DemoError: the job was refused or failed, or a process ended.
        """
        job = self._request("POST", "/jobs/ingest", json={"paths": [str(path) for path in paths]})
        self.console.print(f"  POST /jobs/ingest: accepted as job {job['job_id']}")
        try:
            final = self._follow(job["urls"]["events"])
        except (KeyboardInterrupt, SystemExit):
            with suppress(DemoError):  # it may have ended just now
                self._request("POST", job["urls"]["cancel"])
            raise
        if final["status"] != "success":
            raise DemoError(f"The job ended as {final['status']}: {(final['error'] or {}).get('message')}")
        self._print_report(self._request("GET", job["urls"]["result"]), final["metrics"]["run_seconds"])

    def ask(self, question: str) -> None:
        """Searches what was ingested and prints the best answer and the runners-up.

        Raises:
            DemoError: the search did not work.
        """
        hits = self._request("GET", "/search", params={"q": question, "k": 10})["hits"]
        self.console.print(f"\n[bold]{escape(question)}[/]")
        if not hits:
            self.console.print("  Nothing was found.")
            return
        best = hits[0]
        self.console.print(f"  [green]{escape(best['title'])}[/] [dim]{escape(best['path'])}[/] {best['score']:.2f}")
        for line in best_passage(best["text"], question).splitlines():
            for part in textwrap.wrap(line, LINE_WIDTH) or [""]:
                self.console.print(f"  │ {part}", markup=False)
        others = list(dict.fromkeys(hit["title"] for hit in hits if hit["path"] != best["path"]))
        if others:
            self.console.print(f"  See also: {'; '.join(others[:3])}", markup=False)

    def _follow(self, url: str) -> dict[str, Any]:
        with ProgressView(self.console) as view:
            for event in follow(self.client, url, self._check):
                if event.data.get("progress_detail"):
                    view.show(event.data["progress_detail"])
        return event.data

    def _check(self, patience: float = 0) -> None:
        for service in self.services:
            service.check(patience)

    def _request(self, method: str, url: str, **options: Any) -> Any:
        try:
            response = self.client.request(method, url, **options)
        except httpx.TransportError as error:
            self._check(patience=1)
            raise DemoError(f"{method} {url} got no answer ({type(error).__name__}).") from error
        if response.is_error:
            raise DemoError(f"{method} {url} was answered {response.status_code}: {response.text[:500]}")
        return response.json()

    def _print_report(self, report: dict[str, Any], seconds: float) -> None:
        failures = report["failures"]
        self.console.print(
            f"Ingested {report['ingested']} of {report['documents']} documents as {report['chunks']} chunks "
            f"in {seconds:.1f} s; {len(failures)} could not be read."
        )
        for failure in failures[:MAX_FAILURES]:
            self.console.print(f"  {failure['path']}: {failure['detail']}", style="yellow", markup=False)
        if len(failures) > MAX_FAILURES:
            self.console.print(f"  … and {len(failures) - MAX_FAILURES} more.")


def best_passage(text: str, question: str, size: int = 400) -> str:
    """The part of a chunk that answers the question best, so that a person need not read all of it.

    Args:
        text: the chunk.
        question: what was asked.
        size: the most characters of the answer.
    """
    passages = chunk_text(text, size=size, overlap=0)
    wanted, *vectors = HashingEmbedder().embed([question, *passages])
    return max(zip(passages, vectors, strict=True), key=lambda pair: float(pair[1] @ wanted))[0]
