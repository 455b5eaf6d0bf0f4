"""Tasks that call a provider."""

from __future__ import annotations

import os

import httpx
from celery import Celery

from aijobs import LLM_CALL, ProgressTask

app = Celery("provider", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])
if "TEST_TRANSPORT" in os.environ:
    app.conf.broker_transport = os.environ["TEST_TRANSPORT"]
app.conf.task_protocol = int(os.environ.get("TEST_PROTOCOL", "2"))
#: Like the preset for such calls, with waits that a test can bear.
LIKE_LLM = LLM_CALL.but(max_retries=2, backoff=1, backoff_max=1)


def ask(url: str) -> str:
    answer = httpx.get(url, timeout=20)
    answer.raise_for_status()
    return answer.text


@app.task(base=ProgressTask)
def bare(url: str) -> str:
    return ask(url)


@app.task(base=ProgressTask, bind=True, **LIKE_LLM.options())
def call(self: ProgressTask, url: str) -> str:
    self.progress(1, 2)
    return ask(url)


@app.task(base=ProgressTask, **LIKE_LLM.options())
async def call_async(url: str) -> str:
    async with httpx.AsyncClient(timeout=20) as client:
        answer = await client.get(url)
    answer.raise_for_status()
    return answer.text


@app.task(base=ProgressTask, **LIKE_LLM.but(patience=5).options())
def call_impatiently(url: str) -> str:
    return ask(url)


@app.task(base=ProgressTask, autoretry_for=(Exception,), default_retry_delay=0, max_retries=2)
def retry_all(url: str) -> str:
    return ask(url)


@app.task(base=ProgressTask, obey_providers=False, autoretry_for=(Exception,), default_retry_delay=0, max_retries=2)
def disobey(url: str) -> str:
    return ask(url)


@app.task(base=ProgressTask, bind=True, max_retries=1)
def retry_by_hand(self: ProgressTask, url: str) -> str:
    try:
        return ask(url)
    except httpx.HTTPError as error:
        raise self.retry(exc=error, countdown=0) from error


@app.task(base=ProgressTask, ignore_result=True, **LIKE_LLM.options())
def call_and_forget(url: str) -> str:
    return ask(url)


@app.task(base=ProgressTask, **LIKE_LLM.options())
def tell_secrets(url: str) -> str:
    key = "sk-proj-abcdefghijklmnop"
    answer = httpx.get(url, params={"key": key}, headers={"Authorization": f"Bearer {key}"})
    answer.raise_for_status()
    return "told"


@app.task(base=ProgressTask)
def pass_by() -> str:
    return "passed"
