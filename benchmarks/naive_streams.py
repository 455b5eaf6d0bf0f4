"""Event streams as tutorials have them: each client has a subscription of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import redis.asyncio
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from benchmarks.app import URL
from benchmarks.harness import NEWS_CHANNEL

app = FastAPI()
# redis-py makes a hundred connections by itself, and then refuses.
client = redis.asyncio.Redis.from_url(URL, max_connections=2_000)


@app.get("/jobs/{job_id}/events")
async def events(job_id: str) -> StreamingResponse:
    """What happens to a job from now on; what happened before, or while a client is away, it does not hear of."""
    return StreamingResponse(_listen(job_id), media_type="text/event-stream")


async def _listen(job_id: str) -> AsyncIterator[str]:
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(NEWS_CHANNEL + job_id)
        async for message in pubsub.listen():
            if message["type"] == "message":
                yield f"event: progress\ndata: {message['data'].decode()}\n\n"
