"""What the files say is done, with real servers: the broker's command, health checks, what is counted."""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis
import yaml

from aijobs.compose.inspection import Facts, Queue
from aijobs.compose.monitoring import counted_keys
from aijobs.compose.stores import over_bash
from aijobs.embedded import find_server_binary
from aijobs.store.redis import RedisStore
from aijobs.store.values import Beat
from tests.compose.deployments import PLAIN, files_of, project
from tests.helpers import claim, new_job, wait_until

PASSWORD = "only-letters-and-digits-0"


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def broker_command(tmp_path: Path) -> list[str]:
    """The broker's command as its container gets it, but for a free port and a folder of this test."""
    document = yaml.safe_load(files_of(project(tmp_path), PLAIN)["compose.yaml"].text)
    shell, option, script = document["services"]["redis"]["command"]
    with socket_port() as port:
        pass
    script = script.replace("$$", "$").replace("dir /data", f"dir {tmp_path}\nbind 127.0.0.1\nport {port}")
    program = tmp_path / "redis-server"
    program.symlink_to(find_server_binary())
    return [shell, option, script, str(port)]


@contextmanager
def socket_port() -> Iterator[int]:
    """A port that nobody else has at the moment."""
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one.getsockname()[1]


def test_the_broker_starts_as_it_is_told_to(broker_command: list[str], tmp_path: Path) -> None:
    *command, port = broker_command
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "REDIS_PASSWORD": PASSWORD}
    with running(command, environment) as process, redis.Redis(port=int(port), password=PASSWORD) as client:
        wait_until(lambda: answers(client), "the broker answers")
        said = client.config_get("*")
        assert said["maxmemory-policy"] == "noeviction"
        assert said["appendonly"] == "yes"
        assert int(said["maxmemory"]) == 384 * 1024**2
        with redis.Redis(port=int(port)) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        # The shell gave way to the server, which therefore gets SIGTERM, and no list of processes shows the password.
        assert PASSWORD not in " ".join(psutil.Process(process.pid).cmdline())
        assert psutil.Process(process.pid).children() == []
    assert process.returncode == 0


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


class Health(http.server.BaseHTTPRequestHandler):
    """Answers with the status that its path names."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.strip("/")))
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def web_port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize(("status", "is_well"), [(200, True), (503, False), (404, False)])
def test_health_is_asked_with_bash_alone(web_port: int, status: int, is_well: bool) -> None:
    done = subprocess.run(over_bash(f"/{status}", web_port).command, check=False, capture_output=True, timeout=30)
    assert (done.returncode == 0) is is_well


def test_a_server_that_is_not_there_is_not_well() -> None:
    with socket_port() as port:
        pass
    assert subprocess.run(over_bash("/200", port).command, check=False, capture_output=True, timeout=30).returncode != 0


def test_what_is_counted_is_what_the_store_keeps(store: RedisStore, redis_client: redis.Redis) -> None:
    waiting, running_job = new_job(queue="heavy"), new_job()
    for job in (waiting, running_job):
        store.run(store.create(job))
    store.run(store.start(claim(running_job)))
    store.run(store.beat(Beat("session", "worker-1", "{}")))
    prefix = store.settings.key_prefix
    sizes = {key: redis_client.zcard(key) for key in counted_keys(["celery", "heavy"], prefix)}
    counted = {key.removeprefix(f"{prefix}:"): size for key, size in sizes.items() if size}
    assert counted == {"jobs:queued": 1, "jobs:running": 1, "queue:heavy": 1, "workers": 1}


def test_the_dashboard_asks_for_what_is_counted(tmp_path: Path) -> None:
    facts = Facts((Queue("celery"), Queue("heavy")))
    files = files_of(project(tmp_path), facts, services="grafana")
    exporter = yaml.safe_load(files["compose.yaml"].text)["services"]["redis-exporter"]["environment"]
    text = exporter["REDIS_EXPORTER_CHECK_SINGLE_KEYS"].replace("${AIJOBS_KEY_PREFIX:-aijobs}", "aijobs")
    keys = [one.removeprefix("db0=") for one in text.split(",")]
    assert keys == counted_keys(["celery", "heavy"], "aijobs")
    panels = json.loads(files["deploy/grafana/dashboards/jobs.json"].text)["panels"]
    patterns = {
        found for one in panels for target in one["targets"] for found in re.findall(r'key=~"([^"]+)"', target["expr"])
    }
    assert patterns
    for pattern in patterns:
        assert any(re.fullmatch(pattern, key) for key in keys), pattern


def test_the_load_test_is_a_program(tmp_path: Path) -> None:
    facts = Facts(PLAIN.queues, health_path="/v2/work/health")
    text = files_of(project(tmp_path), facts, services="locust")["deploy/locust/locustfile.py"].text
    compile(text, "locustfile.py", "exec")
    assert 'JOBS = "/v2/work"' in text


def test_the_generator_loads_neither_celery_nor_a_web_framework() -> None:
    code = "import sys, aijobs.compose; print({'celery', 'kombu', 'fastapi', 'starlette'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
