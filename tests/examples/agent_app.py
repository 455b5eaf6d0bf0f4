"""The agent as its users meet it: a provider, workers and the API as processes of their own. Everything is real."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from agent.demo_processes import api, provider, worker
from agent.fake_script import Script
from aijobs.embedded import start_server
from document_ingestion.demo_events import Event, read_events
from document_ingestion.demo_processes import Service, environment
from tests.examples.document_files import BREAD, COFFEE, TEA
from tests.helpers import wait_until

NOTES = {"tea.md": f"# All about tea\n\n{TEA}\n", "coffee.md": f"# Coffee beans\n\n{COFFEE}\n", "bread.md": BREAD}
QUESTION = "How is green tea dried?"
#: A key that must appear nowhere.
KEY = "sk-not-for-anyone-else"
#: Shorter than in real life; a killed worker's job goes on after the lease.
LEASE_SECONDS = 5
DEADLINE_SECONDS = 60.0


@dataclass
class AgentApp:
    """The app without a worker, and the provider that it asks."""

    client: httpx.Client
    provider: httpx.Client
    env: dict[str, str]
    folder: Path
    #: How many calls the provider had before the newest question.
    before: int = 0

    @contextmanager
    def worker(self, pool: str = "asyncio") -> Iterator[Service]:
        """A worker, until the block ends; it may be killed before."""
        with worker(self.env, self.folder, pool) as service:
            yield service

    def follow_script(self, **script: Any) -> None:
        """Tells the provider what to do; it forgets nothing but how many calls there were."""
        body = {"thinking_seconds": 0, "token_seconds": 0, "api_key": KEY, **script}
        self.provider.put("/script", json=body).raise_for_status()

    def ask(self, question: str = QUESTION) -> dict[str, Any]:
        """Submits a question."""
        self.before = len(self._all_calls())
        job: dict[str, Any] = self.client.post("/jobs/research", json={"question": question}).raise_for_status().json()
        return job

    def events(self, job: dict[str, Any]) -> Iterator[Event]:
        """The job's events from the first to the last, as they come."""
        url = f"{job['urls']['events']}?starting_after=0"
        with self.client.stream("GET", url, timeout=DEADLINE_SECONDS) as response:
            yield from read_events(response.raise_for_status().iter_lines())

    def calls(self) -> list[dict[str, Any]]:
        """What the provider was asked since the newest question."""
        return self._all_calls()[self.before :]

    def _all_calls(self) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = self.provider.get("/calls").raise_for_status().json()
        return calls

    def until_written(self, job: dict[str, Any], characters: int = 30) -> dict[str, Any]:
        """The job's output, once so much of the report is there."""

        def look() -> dict[str, Any] | None:
            output: dict[str, Any] = self.client.get(f"{job['urls']['self']}/output").raise_for_status().json()
            return output if len(output["text"]) >= characters else None

        return wait_until(look, "a part of the report")


def paid(calls: list[dict[str, Any]]) -> Counter[str]:
    """How often each call was answered, even in part."""
    return Counter(f"{call['kind']}: {call['about']}" for call in calls if call["state"] != "refused")


def kill(service: Service) -> None:
    """Ends a worker as a machine does that is switched off."""
    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait(DEADLINE_SECONDS)


@contextmanager
def started(folder: Path) -> Iterator[AgentApp]:
    """The app and its provider, until the block ends."""
    notes = folder / "notes"
    notes.mkdir()
    for name, text in NOTES.items():
        (notes / name).write_text(text)
    with ExitStack() as stack:
        server = stack.enter_context(start_server(use_environment=False))
        _, provider_url = stack.enter_context(provider(folder, Script()))
        env = environment(
            {
                "REDIS_URL": server.url,
                "OPENAI_BASE_URL": f"{provider_url}/v1",
                "OPENAI_API_KEY": KEY,
                "AGENT_NOTES": str(notes),
                "AIJOBS_LEASE_SECONDS": str(LEASE_SECONDS),
                "TMPDIR": str(folder),
            }
        )
        _, url = stack.enter_context(api(env, folder, port=0))
        client = stack.enter_context(httpx.Client(base_url=url, timeout=DEADLINE_SECONDS))
        asked = stack.enter_context(httpx.Client(base_url=provider_url, timeout=DEADLINE_SECONDS))
        yield AgentApp(client, asked, env, folder)
