"""Which task runs, and its request, kept by context and no longer by thread.

What a coroutine starts with a copy of its context, child tasks and `asyncio.to_thread`, then has the same
`self.request` and `current_task`; and coroutines that share a thread each have their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from celery import _state
from celery.app import base, trace
from celery.app import task as task_module


class ContextStack:
    """Does what `celery.utils.threads.LocalStack` does."""

    def __init__(self) -> None:
        self._items: ContextVar[tuple[Any, ...]] = ContextVar("aijobs_stack", default=())

    def push(self, item: Any) -> Sequence[Any]:
        """Puts an item on top."""
        items = (*self._items.get(), item)
        self._items.set(items)
        return items

    def pop(self) -> Any:
        """Takes the item on top away; None when there is none."""
        items = self._items.get()
        if not items:
            return None
        self._items.set(items[:-1])
        return items[-1]

    @property
    def top(self) -> Any:
        """The item on top; None when there is none."""
        items = self._items.get()
        return items[-1] if items else None

    @property
    def stack(self) -> Sequence[Any]:
        """All items, the one on top last."""
        return self._items.get()

    def __len__(self) -> int:
        return len(self._items.get())


def keep_request_by_context(task_class: Any) -> None:
    """Has the tasks of a class find their request by context; doing it twice does nothing."""
    if not isinstance(task_class.request_stack, ContextStack):
        task_class.request_stack = ContextStack()


def keep_current_task_by_context() -> None:
    """Has Celery find the current task by context, in all of this process; doing it twice does nothing."""
    state: Any = _state
    if isinstance(state._task_stack, ContextStack):
        return
    stack = ContextStack()
    modules: tuple[Any, ...] = (state, base, trace, task_module)
    for module in modules:
        module._task_stack = stack
    state.push_current_task, state.pop_current_task = stack.push, stack.pop
