"""The event loop of the asyncio pool: a thread of its own, and how it and the worker's main thread call each other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from aijobs.worker.execution import make_task

logger = logging.getLogger(__name__)

#: Something to call.
Call = Callable[[], object]

#: How long the loop may be held up by one piece of code before the log says so, seconds.
BLOCKED_SECONDS = 1.0
_LOOK_SECONDS = 0.25
_STOP_SECONDS = 2.0
#: A place in the code is named once; and no more than so many.
_MOST_PLACES = 20


class LoopThread:
    """A thread that runs an event loop.

    What is called together costs one wake-up.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_task_factory(make_task)
        self._calls: deque[Call] = deque()
        self._is_woken = self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="aijobs-loop", daemon=True)
        self._watch = _Watch(self.loop, self._thread)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()
        self._watch.start()

    def call(self, call: Call) -> None:
        """Has the loop make a call; from any thread."""
        self._calls.append(call)
        if not self._is_woken:
            self._is_woken = True
            # The loop may have been closed by now.
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._call_all)

    def stop(self) -> None:
        """Ends the thread, if what the loop runs lets it."""
        self._is_stopped = True
        self._watch.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_STOP_SECONDS)
        if not self._thread.is_alive():
            self.loop.close()

    def _call_all(self) -> None:
        self._is_woken = False
        while self._calls:
            _make(self._calls.popleft())

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._is_stopped:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                # Raised in a task of a job, which has been told; the loop is not the job's to end.
                logger.warning("Code on the event loop raised %r, which has no effect there", error)


class Inbox:
    """What the event loop has the worker's main thread call.

    Celery's loop makes the calls, once it knows of the inbox; what collects meanwhile is made together.

    Args:
        together: is entered while Celery's loop makes calls.
    """

    def __init__(self, together: Callable[[], contextlib.AbstractContextManager[object]]) -> None:
        self._together = together
        self._calls: deque[Call] = deque()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._lock = threading.Lock()
        self._is_woken = False

    def register(self, hub: Any) -> None:
        """Has Celery's loop make the calls, until it is reset."""
        hub.add_reader(self._reader, self._take_turn, hub)

    def put(self, call: Call) -> None:
        """Has a call made; from any thread."""
        self._calls.append(call)
        if not self._is_woken:
            self._is_woken = True
            with contextlib.suppress(BlockingIOError):
                os.write(self._writer, b"\0")

    def _take_turn(self, hub: Any) -> None:
        """Makes the calls, and with them what they leave to Celery's loop: acknowledgements, for one."""
        with self._together():
            self.make_calls()
            for ready in hub._pop_ready():
                _make(ready)

    def wait(self, seconds: float) -> None:
        """Waits for calls, and makes them, where Celery's loop does not run."""
        if select.select([self._reader], [], [], seconds)[0]:
            self.make_calls()

    def make_calls(self) -> None:
        """Makes what calls there are."""
        with self._lock:
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 4_096)
            self._is_woken = False
            while self._calls:
                _make(self._calls.popleft())


class _Watch(threading.Thread):
    """Says where the code stands that keeps an event loop from turning."""

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
        super().__init__(name="aijobs-loop-watch", daemon=True)
        self._loop = loop
        self._thread = thread
        self._stopped = threading.Event()
        self._turned, self._said = True, False
        self._since = 0.0
        self._places: set[str] = set()

    def run(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            if self._turned:
                self._turned, self._said, self._since = False, False, time.monotonic()
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._turn)
            elif not self._said and time.monotonic() - self._since >= BLOCKED_SECONDS:
                self._said = True
                self._complain()

    def stop(self) -> None:
        self._stopped.set()

    def _turn(self) -> None:
        self._turned = True

    def _complain(self) -> None:
        frame = sys._current_frames().get(self._thread.ident or 0)
        if frame is None:
            return
        place = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        if place in self._places or len(self._places) >= _MOST_PLACES:
            return
        self._places.add(place)
        logger.warning(
            "The event loop of this worker has been held up for more than %.0f s by code that does not await, at %s "
            "(called by %s). All its jobs stand still meanwhile: await an asynchronous call there, or make this one "
            "with asyncio.to_thread().",
            BLOCKED_SECONDS,
            place,
            _callers(frame),
        )


def _callers(frame: Any) -> str:
    """The code that led to a frame, up to the event loop."""
    found: list[str] = []
    while (frame := frame.f_back) is not None and len(found) < 4 and "/asyncio/" not in frame.f_code.co_filename:
        found.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
    return ", ".join(found)


def _make(call: Call) -> None:
    try:
        call()
    except Exception:
        # The others must be made all the same.
        logger.exception("A call between the threads of the worker failed")
