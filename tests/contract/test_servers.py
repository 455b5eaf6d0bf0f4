"""Streams end by themselves when the server is told to stop, whichever server it is and however it was started."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from aijobs.embedded import EmbeddedServer
from tests.helpers import wait_until

from .conftest import DEADLINE_SECONDS, Api
from .processes import free_port, process

pytestmark = pytest.mark.anyio

STREAMS = 100

#: The end of a response that was not cut off.
LAST_CHUNK = b"0\r\n\r\n"

UVICORN = ("uvicorn", "service:app", "--port", "{port}")
SERVERS = {
    "uvicorn": UVICORN,
    "uvicorn with two workers": (*UVICORN, "--workers", "2"),
    "uvicorn with reload": (*UVICORN, "--reload"),
    "gunicorn": ("gunicorn", "service:app", "-b", "127.0.0.1:{port}", "-w", "2", "-k", "uvicorn_worker.UvicornWorker"),
    "hypercorn": ("hypercorn", "service:app", "-b", "127.0.0.1:{port}"),
}

#: Hypercorn tells nobody that it stops: it waits for its responses or, on Python 3.11, cuts them off.
LIMITS = {"hypercorn": {"lifetime_seconds": 3}}
NEEDED = {"gunicorn": ("gunicorn", "uvicorn_worker"), "hypercorn": ("hypercorn",)}


@pytest.fixture
def environ(server: EmbeddedServer, databases: Iterator[int]) -> dict[str, str]:
    return {"TEST_URL": server.url.removesuffix("0") + str(next(databases))}


@pytest.mark.parametrize("name", SERVERS)
async def test_streams_end_with_the_server(name: str, environ: dict[str, str], tmp_path: Path) -> None:
    for module in NEEDED.get(name, ()):
        pytest.importorskip(module)
    port, log = free_port(), tmp_path / "api.log"
    limits = {"TEST_STREAM_LIMITS": json.dumps(LIMITS.get(name, {}))}
    with process(log, {**environ, **limits}, *(word.format(port=port) for word in SERVERS[name])) as running:
        url = f"http://127.0.0.1:{port}"
        await asyncio.to_thread(wait_until, lambda: answers(url), "the start of the API")
        with httpx.Client(base_url=url, timeout=DEADLINE_SECONDS) as client:
            job_id = Api(url, None, client).queue(task="count", body={"items": 1})  # type: ignore[arg-type]
        async with AsyncExitStack() as clients:
            readers = [await clients.enter_async_context(follow(port, job_id)) for _ in range(STREAMS)]
            running.send_signal(signal.SIGTERM)
            rests = await asyncio.wait_for(asyncio.gather(*(one.read() for one in readers)), DEADLINE_SECONDS)
        # Without that, uvicorn would wait for its clients to leave.
        assert await asyncio.to_thread(running.wait, DEADLINE_SECONDS) in (0, -signal.SIGTERM)
    if name != "hypercorn":
        assert all(rest.endswith(LAST_CHUNK) for rest in rests)
        assert "Traceback" not in log.read_text()
        assert "ERROR" not in log.read_text()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/jobs/health").is_success
    except httpx.TransportError:
        return False


@asynccontextmanager
async def follow(port: int, job_id: str) -> AsyncIterator[asyncio.StreamReader]:
    """A stream whose first event has come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        await asyncio.wait_for(reader.readuntil(b"event: job.snapshot"), DEADLINE_SECONDS)
        yield reader
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
