"""A provider that costs nothing: speaks the OpenAI chat API, streams, refuses on demand, and counts its calls.

Start it with `uvicorn agent.fake_provider:app --port 9000`, and give the agent `OPENAI_BASE_URL=http://localhost:9000/v1`.
`PUT /script` says how fast it is and what goes wrong; `GET /calls` tells what it was asked.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field
from starlette.responses import Response

from agent.chat import Message
from agent.fake_answers import answer, kind_of, tokens
from agent.fake_script import Call, Log, Script, Trouble


class ChatRequest(BaseModel):
    """What is read of a request; the rest is ignored, as providers do."""

    model: str
    messages: list[Message] = Field(min_length=1)
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None


app = FastAPI(title="A fake provider", summary="The OpenAI chat API, for demonstrations and tests.")
log = Log(Script.model_validate_json(os.environ.get("FAKE_PROVIDER_SCRIPT") or "{}"))


@app.get("/v1/models")
async def models() -> dict[str, Any]:
    """Lists the models; it takes any name."""
    return {"object": "list", "data": [{"id": "fake", "object": "model", "owned_by": "nobody"}]}


@app.get("/calls")
async def calls() -> list[Call]:
    """All calls since the start, oldest first."""
    return log.calls


@app.get("/script")
async def read_script() -> Script:
    """What it is told to do."""
    return log.script


@app.put("/script")
async def follow_script(script: Script) -> Script:
    """Tells it what to do from now on; troubles count the calls that come after this."""
    log.follow(script)
    return script


@app.post("/v1/chat/completions")
async def complete(body: ChatRequest, request: Request) -> Response:
    """Answers a chat, whole or token by token."""
    wanted = (body.response_format or {}).get("type", "text") != "text"
    kind = kind_of(body.messages, json_wanted=wanted, tools=bool(body.tools), stream=body.stream)
    call = Call(kind, _about(body.messages))
    trouble = log.add(call)
    if log.script.api_key and request.headers.get("Authorization") != f"Bearer {log.script.api_key}":
        trouble = Trouble(status=401)
    if trouble and trouble.status != 200:
        return _refuse(call, trouble)
    await asyncio.sleep(log.script.thinking_seconds)
    message = answer(kind, body.messages)
    usage = _usage(body.messages, message)
    if body.stream:
        chunks = _stream(body, call, tokens(message.content or ""), usage, trouble)
        return StreamingResponse(chunks, media_type="text/event-stream")
    call.tokens, call.state = usage["completion_tokens"], "complete"
    reason = "tool_calls" if message.tool_calls else "stop"
    choice = {"index": 0, "message": message.model_dump(exclude_none=True), "finish_reason": reason}
    return JSONResponse(_envelope("chat.completion", body.model, [choice], usage=usage))


async def _stream(
    body: ChatRequest, call: Call, pieces: Sequence[str], usage: dict[str, int], trouble: Trouble | None
) -> AsyncIterator[str]:
    """The events of a stream. When the client closes its connection, it ends where it is."""
    try:
        for piece in pieces:
            await asyncio.sleep(log.script.token_seconds)
            if trouble and call.tokens == trouble.break_after:
                return
            call.tokens += 1
            yield _event(body.model, [{"index": 0, "delta": {"content": piece}, "finish_reason": None}])
        yield _event(body.model, [{"index": 0, "delta": {}, "finish_reason": "stop"}])
        if (body.stream_options or {}).get("include_usage"):
            yield _event(body.model, [], usage=usage)
        call.state = "complete"
        yield "data: [DONE]\n\n"
    finally:
        if call.state == "open":
            call.state = "closed"


def _refuse(call: Call, trouble: Trouble) -> Response:
    call.status, call.state = trouble.status, "refused"
    wait = trouble.retry_after
    headers = {} if wait is None else {"Retry-After": f"{wait:g}"}
    error = {"message": _REASONS.get(trouble.status, "It does not work now."), "type": "fake", "code": None}
    return JSONResponse({"error": error}, status_code=trouble.status, headers=headers)


_REASONS = {
    401: "The key is not right.",
    429: "Too many requests; try again later.",
    503: "The model is overloaded.",
}


def _event(model: str, choices: list[dict[str, Any]], **more: Any) -> str:
    return f"data: {json.dumps(_envelope('chat.completion.chunk', model, choices, **more))}\n\n"


def _envelope(kind: str, model: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    made = {"id": f"fake-{uuid.uuid4().hex[:12]}", "object": kind, "created": int(time.time())}
    return {**made, "model": model, "choices": choices, **more}


def _usage(messages: Sequence[Message], made: Message) -> dict[str, int]:
    prompt = sum(len(tokens(message.content or "")) for message in messages)
    text = made.content or "".join(call.function.arguments for call in made.tool_calls or ())
    completion = len(tokens(text))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _about(messages: Sequence[Message]) -> str:
    """The question, and how far the conversation about it has come."""
    asked = next((message.content or "" for message in messages if message.role == "user"), "")
    return f"{asked.partition(chr(10))[0].removeprefix('Question: ')} ({len(messages)})"
