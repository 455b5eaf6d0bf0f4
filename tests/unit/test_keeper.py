"""The process that renews for a worker whose own threads cannot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from aijobs.broker.keeper import Entry, Keeper, needs_keeper
from aijobs.errors import ConfigurationError
from aijobs.store.values import ScriptCall
from tests.helpers import wait_until


def entry(url: str, name: str) -> Entry:
    """Counts how often it was renewed."""
    script = "return redis.call('INCR', KEYS[1]) + redis.call('EXPIRE', KEYS[1], 60)"
    return Entry(ScriptCall(url, script, (name,), ()), 0.05)


def growth(client: Any, name: str) -> Callable[[], bool]:
    before = int(client.get(name) or 0)
    return lambda: int(client.get(name) or 0) > before + 2


def test_a_keeper_renews_until_it_is_stopped(redis_url: str, redis_client: Any) -> None:
    keeper = Keeper([entry(redis_url, "one"), entry(redis_url, "two")])
    keeper.start()
    wait_until(growth(redis_client, "one"), "the renewal")
    wait_until(growth(redis_client, "two"), "the renewal")
    pid = keeper.pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    wait_until(growth(redis_client, "one"), "the renewal after SIGTERM")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: keeper.pid not in (None, pid), "the restart")
    wait_until(growth(redis_client, "one"), "the renewal after the restart")
    keeper.stop()
    keeper.stop()
    assert keeper.pid is None


_PARENT = """
import sys, time
from aijobs.broker.keeper import Entry, Keeper
from aijobs.store.values import ScriptCall
keeper = Keeper([Entry(ScriptCall(sys.argv[1], sys.argv[2], ("beats",), ()), 0.05)])
keeper.start()
print(keeper.pid, flush=True)
time.sleep(600)
"""


def test_a_keeper_rests_while_its_parent_is_stopped_and_dies_with_it(redis_url: str, redis_client: Any) -> None:
    script = entry(redis_url, "beats").call.script
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, redis_url, script], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_until(growth(redis_client, "beats"), "the renewal")
        parent.send_signal(signal.SIGSTOP)
        wait_until(lambda: rests(redis_client), "the rest")
        parent.send_signal(signal.SIGCONT)
        wait_until(growth(redis_client, "beats"), "the renewal after the stop")
        parent.kill()
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the keeper's end")  # noqa: PTH110


def rests(client: Any) -> bool:
    before = client.get("beats")
    began = time.monotonic()
    wait_until(lambda: time.monotonic() > began + 0.5, "ten intervals")
    return bool(client.get("beats") == before)


def test_what_cannot_be_told_to_a_keeper_is_refused(redis_url: str) -> None:
    broker = {"transport_options": {"credential_provider": object()}}
    with pytest.raises(ConfigurationError, match="broker_transport_options"):
        Keeper([Entry(ScriptCall(redis_url, "", (), ()), 1.0, broker)])


def test_only_pools_that_share_the_main_process_need_a_keeper() -> None:
    from celery.concurrency import prefork, solo, thread

    assert [needs_keeper(pool.TaskPool) for pool in (prefork, solo, thread)] == [False, True, True]
