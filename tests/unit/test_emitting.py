"""`emit`, `stream` and `log` as a task's author sees them: harmless outside a worker, events inside one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from celery import Celery

from aijobs import JobCancelled, JobStatus, Output, Piece, ProgressTask
from aijobs.job import EventType
from aijobs.runtime import runtime_of
from aijobs.store.values import NewJob
from aijobs.worker.attempts import close_attempt, number_attempt
from aijobs.worker.claims import TOKEN
from tests.helpers import claim, new_job


class Provider:
    """An answer that comes in parts, and knows whether its connection is still open."""

    def __init__(self, *parts: Any, error: BaseException | None = None) -> None:
        self.parts = parts
        self.error = error
        self.open = True

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self.parts
            if self.error:
                raise self.error
        finally:
            self.open = False

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            for part in self.parts:
                await asyncio.sleep(0)
                yield part
            if self.error:
                raise self.error
        finally:
            await asyncio.sleep(0)
            self.open = False


class Responses:
    """Gives parts, and has to be closed itself, as clients of providers do."""

    def __init__(self, *parts: Any) -> None:
        self.parts = iter(parts)
        self.closed = 0

    def __iter__(self) -> Responses:
        return self

    def __next__(self) -> Any:
        return next(self.parts)

    def close(self) -> None:
        self.closed += 1
        raise OSError("it was not even open")


class AsyncResponses(Responses):
    def __aiter__(self) -> AsyncResponses:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self.parts)
        except StopIteration:
            raise StopAsyncIteration from None

    async def close(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.closed += 1


@pytest.fixture
def task(redis_url: str) -> Any:
    app = Celery("tasks", broker=redis_url, backend=redis_url, set_as_current=False)

    @app.task(base=ProgressTask, bind=True, shared=False, name="write")
    def write(self: ProgressTask, words: list[str]) -> Any:
        self.log("begins", words=len(words))
        self.emit({"words": len(words)})
        return self.stream(words)

    app.finalize()
    return app.tasks["write"]


class TestOutsideAWorker:
    def test_a_task_is_a_plain_function(self, task: Any) -> None:
        assert task(["a", "b"]) == "ab"
        assert task.apply((["a"],)).get() == "a"

    def test_an_async_stream_too(self, task: Any) -> None:
        async def write() -> Any:
            return await task.stream(Provider("a", None, "b"))

        assert asyncio.run(write()) == "ab"


@pytest.mark.parametrize(
    ("items", "whole"),
    [
        (["a", "b"], "ab"),
        (["a", "", None, "b"], "ab"),
        ([], ""),
        ([None], ""),
        ([{"n": 1}, {"n": 2}], [{"n": 1}, {"n": 2}]),
        (["a", {"n": 1}, None, "b"], ["a", {"n": 1}, "b"]),
        ([0, False, [], {}], [0, False, [], {}]),
    ],
)
class TestWhatAStreamReturns:
    def test_sync(self, task: Any, items: list[Any], whole: Any) -> None:
        assert task.stream(items) == whole
        assert task.stream(iter(items)) == whole

    def test_async(self, task: Any, items: list[Any], whole: Any) -> None:
        async def write() -> Any:
            return await task.stream(Provider(*items))

        assert asyncio.run(write()) == whole


class TestInsideAWorker:
    @pytest.fixture
    def new(self, task: Any) -> Iterator[NewJob]:
        """A job whose task runs in this process, as a worker would have it."""
        store = runtime_of(task.app).store
        new = new_job(task="write")
        store.run(store.create(new))
        store.run(store.start(claim(new, "token")))
        task.push_request(id=new.id, task="write", **{TOKEN: "token"})
        task.open_attempt()
        yield new
        task.pop_request()
        close_attempt("token")

    def output(self, task: Any, new: NewJob) -> Output | None:
        store = runtime_of(task.app).store
        # What is left is written with the job's end.
        store.run(store.finish(claim(new, "token"), JobStatus.SUCCESS, output=close_attempt("token").output))
        found = store.run(store.output(new.id))
        assert found is not None
        return found[1]

    def test_text_and_data(self, task: Any, new: NewJob) -> None:
        task.emit("Hel")
        task.emit("lo")
        task.emit(["Hello"])
        task.emit(None)
        assert self.output(task, new) == Output(1, (Piece("Hello"), Piece(None, ["Hello"]), Piece(None, None)))

    def test_a_stream_gives_out_each_item(self, task: Any, new: NewJob) -> None:
        assert task.stream(Provider("a", None, "b", {"n": 1}, "")) == ["a", "b", {"n": 1}]
        assert self.output(task, new) == Output(1, (Piece("ab"), Piece(None, {"n": 1})))

    def test_an_async_stream_does_too(self, task: Any, new: NewJob) -> None:
        async def write() -> Any:
            return await task.stream(Provider("a", None, "b", {"n": 1}, ""))

        assert asyncio.run(write()) == ["a", "b", {"n": 1}]
        assert self.output(task, new) == Output(1, (Piece("ab"), Piece(None, {"n": 1})))

    def test_a_line_for_people(self, task: Any, new: NewJob) -> None:
        task.log("plain")
        task.log("retried", "warning", message="slow", attempts=2, error=ValueError("no"))
        assert self.output(task, new) is None
        store = runtime_of(task.app).store
        lines = [event.data for event in store.run(store.events(new.id)) if event.type is EventType.LOG]
        assert lines == [
            {"attempt": 1, "level": "info", "message": "plain", "fields": {}},
            {
                "attempt": 1,
                "level": "warning",
                "message": "retried",
                "fields": {"message": "slow", "attempts": 2, "error": "no"},
            },
        ]

    def test_what_json_cannot_hold_names_emit(self, task: Any, new: NewJob) -> None:
        with pytest.raises(TypeError, match=r"emit\(\) takes text and what JSON can hold"):
            task.emit(object())
        with pytest.raises(ValueError, match=r"emit\(\) takes data of up to"):
            task.emit(["x" * 65_536])
        with pytest.raises(TypeError, match=r"emit\(\)"):
            task.stream([object()])
        assert self.output(task, new) is None

    def test_the_attempt_knows_its_number(self, task: Any, new: NewJob) -> None:
        assert task._attempt().number == 1
        number_attempt("token", 3)
        number_attempt("unknown", 5)
        assert task._attempt().number == 3


class TestClosing:
    """A connection that nobody reads from any more is closed at once, not when the garbage is collected."""

    def interrupted(self, task: Any, source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def emit(value: Any) -> None:
            if value == "stop":
                raise JobCancelled

        monkeypatch.setattr(task, "emit", emit)
        with pytest.raises(JobCancelled):
            task.stream(source)

    def test_a_generator(self, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        provider = Provider("a", "stop", "b")
        self.interrupted(task, provider, monkeypatch)
        assert not provider.open

    def test_a_client_that_fails_to_close_hides_nothing(self, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        responses = Responses("a", "stop", "b")
        self.interrupted(task, responses, monkeypatch)
        assert responses.closed == 1

    def test_what_made_the_iterator(self, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        class Connection(Provider):
            closed = False

            def close(self) -> None:
                self.closed = True

        connection = Connection("a", "stop")
        self.interrupted(task, connection, monkeypatch)
        assert connection.closed

    def test_what_needs_no_closing(self, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.interrupted(task, ["a", "stop"], monkeypatch)

    def test_an_error_of_the_source_passes(self, task: Any) -> None:
        with pytest.raises(ConnectionError, match="reset"):
            task.stream(Provider("a", error=ConnectionError("reset")))

    @pytest.mark.parametrize("make", [Provider, AsyncResponses])
    def test_async(self, task: Any, make: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        source = make("a", "stop", "b")

        async def write() -> None:
            def emit(value: Any) -> None:
                if value == "stop":
                    raise JobCancelled

            monkeypatch.setattr(task, "emit", emit)
            with pytest.raises(JobCancelled):
                await task.stream(source)
            # Before anything else of the event loop ran.
            assert source.closed == 1 if isinstance(source, AsyncResponses) else not source.open

        asyncio.run(write())

    def test_a_cancelled_coroutine(self, task: Any) -> None:
        class Endless(Provider):
            async def __aiter__(self) -> AsyncIterator[Any]:
                try:
                    yield "a"
                    await asyncio.sleep(3_600)
                finally:
                    self.open = False

        source = Endless()

        async def write() -> None:
            writing = asyncio.ensure_future(task.stream(source))
            await asyncio.sleep(0.01)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            assert not source.open

        asyncio.run(write())


def test_a_forwarded_log_needs_nothing_special(task: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Forwarding(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            task.log(record.getMessage(), record.levelname.lower())

    logger = logging.getLogger("shop")
    logger.addHandler(handler := Forwarding())
    try:
        logger.warning("slow")
    finally:
        logger.removeHandler(handler)
    assert "slow" in caplog.text
