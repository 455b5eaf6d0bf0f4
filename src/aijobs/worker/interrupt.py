"""A running task stopped from outside: what happens in the process that executes it.

The worker's main process sends `NUDGE` (SIGUSR2) to the process that runs a job which was cancelled or lost. The
handler asks the store how the job stands and raises `JobCancelled` or `LeaseLost` in the task, wherever it is in its
code, much as a soft time limit does. It raises only while the task's own function is being executed: never between
jobs, nor while the job's end is being written or what follows it is published, which Celery could not bear. And it does
not raise while such an exception is on its way: `finally` blocks run undisturbed. A task that swallows the exception
gets it again with the next nudge.

In a coroutine, whose event loop an exception in the wrong place would corrupt, the handler raises nothing: it has the
loop interrupt the coroutine at its `await`. So it is with SIGUSR1, by which the pool tells of a soft time limit.

Celery itself uses SIGUSR2 in a worker's main process, and only with `CELERY_RDBSIG`. A handler that is there already is
called when a signal was not about a job.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from billiard import pool as billiard_pool
from billiard.process import current_process
from celery import Celery, Task, current_app, signals
from celery.app.trace import build_tracer
from celery.exceptions import Retry, SoftTimeLimitExceeded
from kombu import Producer

from aijobs.errors import StoreUnavailable
from aijobs.runtime import runtime_of
from aijobs.store.values import Change
from aijobs.worker.claims import TOKEN, claim_of, is_job
from aijobs.worker.coroutines import execution_here, interrupt_job, is_coroutine_task, make_plain_tasks_run
from aijobs.worker.exceptions import JobCancelled, LeaseLost, behind
from aijobs.worker.retrying import send_to_wait
from aijobs.worker.stacks import keep_current_task_by_context

#: Tells a process to look whether its job is still wanted.
NUDGE = signal.SIGUSR2

#: Tells a process of a pool that the soft time limit of its job has passed.
_SOFT_LIMIT = billiard_pool.SIG_SOFT_TIMEOUT

_PR_SET_PDEATHSIG = 1
#: How often a process looks whether its worker is still there, where the kernel does not tell it, seconds.
_WATCH_SECONDS = 1.0

#: Where the handler comes from with which billiard ends a process; between two jobs a nudge means nothing.
_BILLIARD = "billiard.common"

_listening = False


def connect_process_signals() -> None:
    """Prepares each process of a pool that executes tasks in its main thread; connecting twice does nothing."""
    signals.worker_process_init.connect(_prepare_process, dispatch_uid="aijobs.prepare_process", weak=False)


def make_interruptible(app: Celery) -> None:
    """Has the handler know when a task of an app is being executed; and has every `async def` run."""
    for task in app.tasks.values():
        make_plain_tasks_run(task)
    if any(map(is_coroutine_task, app.tasks.values())):
        keep_current_task_by_context()
    for task in app.tasks.values():
        if is_job(task.name) and not hasattr(task.run, "__aijobs_interruptible__"):
            task.run = _interruptible(task, task.run)


def is_listening() -> bool:
    """Whether this process executes tasks in its main thread, and heeds nudges."""
    return _listening


def interruption_underway() -> BaseException | None:
    """The cancel or loss of this job that is being handled right now, as in a `finally` block that it runs through."""
    return _origin(sys.exception())


def interruption_for(change: Change) -> type[JobCancelled | LeaseLost] | None:
    """What the store's answer to a write of an attempt means for its task; None when that may go on."""
    if change.accepted:
        return JobCancelled if change.cancel_requested else None
    return LeaseLost if change.status is not None else None


def _origin(error: BaseException | None) -> BaseException | None:
    """The interruption that an exception comes from, or is."""
    return behind(error, (JobCancelled, LeaseLost))


def _interruptible(task: Any, function: Any) -> Any:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return _execute(task.request, function, args, kwargs)

    run.__aijobs_interruptible__ = True  # type: ignore[attr-defined]
    return run


def _execute(request: Any, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Executes a task; while this is on the stack, the handler may raise."""
    if _listening:
        _listen()
    try:
        return function(*args, **kwargs)
    except (JobCancelled, LeaseLost, Retry):
        raise
    except Exception as error:
        # Libraries wrap what they did not expect in an exception of their own.
        interruption = _origin(error)
        if interruption is None:
            raise
        raise type(interruption)(*interruption.args) from error


def _listen() -> None:
    """Installs the handler; billiard may have put its own in its place, and so may the task before."""
    found = signal.getsignal(NUDGE)
    if found is not _handlers.nudged:
        _handlers.before = found
        signal.signal(NUDGE, _handlers.nudged)
    if _SOFT_LIMIT is not None and signal.getsignal(_SOFT_LIMIT) is billiard_pool.soft_timeout_sighandler:
        signal.signal(_SOFT_LIMIT, _limited)


def _limited(number: int, frame: FrameType | None) -> None:
    """The soft time limit of the job that runs here has passed."""
    execution = execution_here()
    if execution is None:
        billiard_pool.soft_timeout_sighandler(number, frame)
    else:
        execution.interrupt(SoftTimeLimitExceeded())


class _Handlers:
    """The handler, and the one that was there before."""

    def __init__(self) -> None:
        self.before: Any = None
        self.nudged = self._nudged

    def _nudged(self, number: int, frame: FrameType | None) -> None:
        request = _interruptible_job(frame)
        if request is not None and interruption_underway() is None:
            _raise_if_unwanted(request)
        elif request is None and callable(self.before) and getattr(self.before, "__module__", "") != _BILLIARD:
            self.before(number, frame)


_handlers = _Handlers()


#: What is not to be left in the middle, as half a message may be on its way; nor does the handler interrupt itself.
_CLOSED_TO_INTERRUPTS = frozenset(
    function.__code__ for function in (Producer.publish, Task.retry, Task.replace, send_to_wait, _Handlers._nudged)
)


def _interruptible_job(frame: FrameType | None) -> Any:
    """The request of the job whose task is being executed, if it may be interrupted where it is.

    The stack is the one witness that cannot be out of date: a flag would have to be set and taken back in between two
    instructions. What a finalizer raises is lost.
    """
    outermost = None
    while frame is not None:
        if frame.f_code in _CLOSED_TO_INTERRUPTS or frame.f_code.co_name == "__del__":
            return None
        if frame.f_code is _execute.__code__:
            outermost = frame
        frame = frame.f_back
    request = None if outermost is None else outermost.f_locals.get("request")
    return request if getattr(request, TOKEN, "") else None


def _raise_if_unwanted(request: Any) -> None:
    # Nothing is logged here: the code that was interrupted may hold the lock of a log.
    change = _ask(request)
    interruption = None if change is None else interruption_for(change)
    if interruption is not None and not interrupt_job(getattr(request, TOKEN), interruption()):
        raise interruption


def _ask(request: Any) -> Change | None:
    """How the job stands, or None when the store does not say; the next nudge asks again."""
    app = current_app._get_current_object()
    store = runtime_of(app).store
    try:
        return store.run(store.report(claim_of(app, request.id, request), None))
    except StoreUnavailable:
        return None


def _prepare_process(sender: Any = None, **_: Any) -> None:
    global _listening  # noqa: PLW0603
    # A solo worker may live in a thread of another program, as in a test; only main threads can be interrupted.
    if threading.current_thread() is threading.main_thread():
        _listening = True
        _listen()
    parent = current_process()._parent_pid
    if parent is not None:
        _die_with(parent)
        _rebuild_tracers(sender)


def _rebuild_tracers(hostname: str) -> None:
    """In a process that was not forked, the tasks are new, and Celery has prepared them already."""
    from aijobs.worker.hooks import guard_tasks

    app = current_app._get_current_object()
    if all(hasattr(task.run, "__aijobs_interruptible__") for task in app.tasks.values() if is_job(task.name)):
        return
    guard_tasks(app)
    make_interruptible(app)
    for name, task in app.tasks.items():
        task.__trace__ = build_tracer(name, task, app.loader, hostname, app=app)


def _die_with(parent: int) -> None:
    """Ends this process when its worker is gone: nobody could keep what it does from being done twice."""
    # Celery asks for the signal as well, but where the C library is not GNU's it fails to.
    if not _ask_for_death_signal():
        threading.Thread(target=_watch, args=(parent,), name="aijobs-orphan-watch", daemon=True).start()
    elif os.getppid() != parent:
        os._exit(1)


def _ask_for_death_signal() -> bool:
    """Whether the kernel will end this process with the thread that forked it, which is the worker's main thread."""
    if not sys.platform.startswith("linux"):
        return False
    # The other threads of a worker may end before it does.
    wanted = signal.SIGKILL if threading.main_thread().name == "MainThread" else 0
    return ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, wanted, 0, 0, 0) == 0 and bool(wanted)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)
