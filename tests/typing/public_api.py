"""What a type checker says of a program that uses aijobs. Checked by mypy, never run.

An error that has to be there is silenced by its code: mypy complains when it is missing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime
from typing import Any, assert_type

from celery import Celery
from fastapi import FastAPI

from aijobs import (
    LLM_CALL,
    ErrorCode,
    Job,
    JobError,
    JobEvent,
    JobNotFound,
    JobRouter,
    JobStatus,
    Preset,
    Progress,
    ProgressTask,
    PublishFailed,
    Settings,
    cancel,
    job_router,
    setup,
    submit,
)
from aijobs.runtime import Runtime
from aijobs.store import JobStore, open_store
from aijobs.store.values import Change, CreateReply, JobFilter, NewJob, Page, Position

celery_app = Celery("jobs")


def presets() -> None:
    assert_type(LLM_CALL, Preset)
    assert_type(LLM_CALL.but(max_retries=2), Preset)
    assert_type(LLM_CALL.options(), dict[str, Any])
    Preset(max_retries="three")  # type: ignore[arg-type]
    LLM_CALL.max_retries = 3  # type: ignore[misc]


class Embed(ProgressTask):
    def run(self, texts: list[str]) -> int:
        tracked: Iterator[str] = self.track(texts, unit="texts")
        assert_type(list(tracked), list[str])
        with self.step("embed"):
            self.progress(1, 2, message="half")
        self.progress("half")  # type: ignore[arg-type]
        return len(texts)


def read(path: str) -> list[str]:
    return [path]


async def translate(text: str) -> str:
    return text


class GoOn(ProgressTask):
    def run(self) -> int:
        assert_type(self.resume(), Any)
        assert_type(self.resume(0), int)
        self.checkpoint({"page": 1})
        assert_type(self.run_step("read", read, path="a"), list[str])
        self.run_step("read", read, 1)  # type: ignore[arg-type]
        self.run_step("read", read)  # type: ignore[call-arg]
        return self.run_step("count", lambda: 3)

    async def more(self) -> None:
        assert_type(await self.run_step("translate", translate, "a"), str)
        assert_type([text async for text in self.track(["a"], resume=True)], list[str])


class Write(ProgressTask):
    def run(self, words: list[str], pages: list[int]) -> str:
        self.emit("a word")
        self.emit({"page": 1})
        self.log("begins", "warning", pages=len(pages))
        self.log(message="begins")  # type: ignore[call-arg]
        assert_type(self.stream(pages), str | list[int])
        return self.stream(words)


async def streaming(write: Write, words: AsyncIterator[str | None], pages: AsyncIterator[int]) -> None:
    assert_type(await write.stream(words), str)
    assert_type(await write.stream(pages), str | list[int])


def submitting(embed: Embed) -> None:
    job = submit(embed, [["text"]], {"model": "small"}, owner="alice", metadata={"a": "b"}, queue="gpu")
    assert_type(job, Job)
    submit(embed, owner=1)  # type: ignore[arg-type]
    assert_type(cancel(celery_app, job.id), Change)
    assert_type(setup(celery_app), Runtime)


def records(job: Job, event: JobEvent) -> None:
    assert_type(job.id, str)
    assert_type(job.status, JobStatus)
    assert_type(job.finished, bool)
    assert_type(job.progress, float | None)
    assert_type(job.progress_detail, Progress | None)
    assert_type(job.created_at, datetime)
    assert_type(job.completed_at, datetime | None)
    assert_type(job.error, JobError | None)
    assert_type(job.metadata, Mapping[str, str])
    assert_type(event.seq, int)
    assert_type(event.data, Mapping[str, Any])
    if job.error is not None:
        assert_type(job.error.code, ErrorCode)
        assert_type(job.error.retryable, bool)
    job.status = JobStatus.QUEUED  # type: ignore[misc]
    job.state  # type: ignore[attr-defined]  # noqa: B018


def errors(error: PublishFailed | JobNotFound) -> None:
    assert_type(error.job_id, str)


def routes() -> None:
    router = job_router(celery_app, prefix="/jobs", owner=lambda: "alice")
    assert_type(router, JobRouter)
    FastAPI().include_router(router)
    job_router(celery_app, prefix=1)  # type: ignore[arg-type]


def stores(store: JobStore) -> None:
    assert_type(open_store("redis://", Settings()), JobStore)
    assert_type(store.run(store.get("id")), Job | None)
    assert_type(store.run(store.create(NewJob("id", "embed"))), CreateReply)
    page = store.run(store.list(JobFilter(owner="alice"), 10))
    assert_type(page, Page)
    assert_type(page.next, Position | None)
    store.run("GET")  # type: ignore[arg-type]


async def stores_in_an_event_loop(store: JobStore) -> None:
    assert_type(await store.run_async(store.get("id")), Job | None)
    async with store.watch("id") as wait:
        assert_type(await wait(1.0), bool)
