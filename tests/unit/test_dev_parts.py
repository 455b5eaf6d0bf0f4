"""The parts of `aijobs dev`, each by itself."""

from __future__ import annotations

import os
import pty
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from queue import SimpleQueue

import pytest

from aijobs.cli.dev.broker import PLACEHOLDER, child_environment, open_server, probe_environment, unset
from aijobs.cli.dev.log import MergedLog
from aijobs.cli.dev.probe import Found, examine
from aijobs.cli.dev.watch import Watcher
from aijobs.embedded import start_server
from aijobs.errors import ConfigurationError

DEADLINE_SECONDS = 60.0

MODULES = {
    "probed_shop/__init__.py": "",
    "probed_shop/worker.py": """
        from celery import Celery
        helper = 3
        jobs = Celery("shop", broker="redis://localhost:7001/0;redis://other/0", backend="redis://localhost:7001/1")
    """,
    "probed_shop/main.py": """
        from fastapi import FastAPI
        from probed_shop.worker import jobs
        web = FastAPI(docs_url="/manual")
        async def bare(scope, receive, send): ...
    """,
    "probed_silent.py": "from celery import Celery\nsilent = Celery('silent')\n",
    "probed_env.py": """
        import os
        from celery import Celery
        app = Celery("env", broker=os.environ["REDIS_URL"], backend=os.environ["CELERY_RESULT_BACKEND"])
    """,
    "probed_boom.py": "def half(x):\n    return x / 0\nhalf(1)\n",
    "probed_syntax.py": "def half(x:\n",
    "probed_missing.py": "import no_such_package_at_all\n",
    "probed_exit.py": "raise SystemExit(4)\n",
    "probed_bad_settings.py": """
        from celery import Celery
        app = Celery("bad")
        app.config_from_object("no_such_settings")
    """,
}


@pytest.fixture
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, text in MODULES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(line.removeprefix("        ") for line in text.splitlines()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(os, "environ", probe_environment({"PATH": os.environ["PATH"]}))
    yield
    for name in [name for name in sys.modules if name.startswith("probed_")]:
        del sys.modules[name]


@pytest.mark.usefixtures("_project")
class TestProbe:
    """What is found in the user's modules."""

    def test_the_first_address_of_each_kind_is_found(self) -> None:
        found = examine("probed_shop.worker:jobs", "probed_shop.main:web", [])
        assert found == Found(
            worker="probed_shop.worker:jobs",
            api="probed_shop.main:web",
            docs="/manual",
            broker=PLACEHOLDER,  # the environment wins, as it does in Celery
            backend=PLACEHOLDER,
        )

    def test_what_is_ours_in_the_environment_does_not_count(self) -> None:
        found = examine("probed_shop.worker:jobs", None, unset({}))
        assert (found.broker, found.backend) == ("redis://localhost:7001/0", "redis://localhost:7001/1")
        assert (found.api, found.docs) == (None, None)

    def test_an_app_may_read_the_environment_or_say_nothing(self) -> None:
        found = examine("probed_env", None, unset({}))
        assert (found.worker, found.broker, found.backend) == ("probed_env:app", PLACEHOLDER, PLACEHOLDER)
        silent = examine("probed_silent", None, unset({}))
        assert (silent.worker, silent.broker, silent.backend) == ("probed_silent:silent", None, None)

    def test_any_asgi_callable_is_an_api(self) -> None:
        found = examine("probed_shop.worker:jobs", "probed_shop.main:bare", [])
        assert (found.api, found.docs) == ("probed_shop.main:bare", None)

    @pytest.mark.parametrize(
        ("worker", "message"),
        [
            (
                "probed_shopp.worker:app",
                r"no module 'probed_shopp': run the command in the folder where it is",
            ),
            ("probed_shop.workr:app", r"no 'workr' in the package 'probed_shop': correct the name"),
            ("probed_shop.worker:app", r"has no 'app'\. Did you mean probed_shop\.worker:jobs\?"),
            ("probed_shop.worker:helper", r"is not a Celery app but a int\. Did you mean .*:jobs\?"),
            ("probed_shop", r"probed_shop holds no Celery app: give one as probed_shop:NAME"),
            ("probed_shop:app", r"probed_shop has no 'app'\. The module holds no Celery app"),
            (
                "probed_shop/worker.py:jobs",
                r"no module: give the Celery app with dots, as probed_shop\.worker:NAME",
            ),
            ("probed_boom", r"ZeroDivisionError: division by zero \(probed_boom\.py, line 2\)"),
            ("probed_syntax", r"SyntaxError: .*\(probed_syntax\.py, line 1\)"),
            ("probed_missing", r"No module named 'no_such_package_at_all' .*line 1\): install it for "),
            ("probed_exit", r"probed_exit cannot be imported: SystemExit: 4"),
            (
                "probed_bad_settings",
                r"configuration of probed_bad_settings:app cannot be read: .*no_such_settings",
            ),
        ],
    )
    def test_what_is_wrong_is_said_in_one_line(self, worker: str, message: str) -> None:
        with pytest.raises(ConfigurationError, match=message) as caught:
            examine(worker, None, unset({}))
        assert "\n" not in str(caught.value)

    def test_a_wrong_api_is_named(self) -> None:
        with pytest.raises(ConfigurationError, match=r"has no 'app'\. Did you mean probed_shop\.main:web\?"):
            examine("probed_shop.worker:jobs", "probed_shop.main:app", [])


def found_with(broker: str | None, backend: str | None = None) -> Found:
    return Found("shop:app", None, None, broker, backend)


def opened(found: Found, data: Path, environ: Mapping[str, str]) -> tuple[str | None, str, dict[str, str]]:
    """The server's address, the note, and what the children get."""
    server = open_server(found, data, environ)
    if server.embedded:
        server.embedded.stop()
    return server.url, server.note, child_environment(found, server, environ)


class TestBroker:
    """Which server is used."""

    def test_a_silent_app_gets_a_server_through_the_environment(self, tmp_path: Path) -> None:
        url, _, environment = opened(found_with(None), tmp_path, {})
        assert url
        assert environment == dict.fromkeys(unset({}), url)

    def test_the_parts_of_an_address_that_the_app_adds_are_kept(self, tmp_path: Path) -> None:
        backend = PLACEHOLDER.replace("/0", "/3")
        url, _, environment = opened(found_with(PLACEHOLDER, backend), tmp_path, {})
        assert url
        assert environment["CELERY_BROKER_URL"] == url
        assert environment["CELERY_RESULT_BACKEND"] == url.replace("/0", "/3")
        assert environment["AIJOBS_STORE_URL"] == environment["CELERY_RESULT_BACKEND"]

    def test_a_server_comes_up_at_the_apps_address_with_its_password(self, tmp_path: Path) -> None:
        with start_server() as probe:
            port = probe.port
        address = f"redis://me:s%40cret@localhost:{port}/4"
        server = open_server(found_with(address), tmp_path, {})
        assert server.embedded
        with server.embedded:
            assert (server.url, server.embedded.port) == (address, port)
            again = open_server(found_with(address), tmp_path / "other", {})
            assert (again.url, again.note, again.embedded) == (address, "found running", None)

    def test_redis_url_is_taken_as_it_is(self, tmp_path: Path) -> None:
        with start_server() as theirs:
            given = {"REDIS_URL": theirs.url}
            url, note, environment = opened(found_with(None), tmp_path / "unused", given)
            assert (url, note) == (theirs.url, "named by REDIS_URL")
            assert environment == dict.fromkeys(unset({}), url)
        assert not (tmp_path / "unused").exists()
        with pytest.raises(ConfigurationError, match=r"REDIS_URL is redis://127\S+, which does not answer .*unset"):
            opened(found_with(None), tmp_path, given)

    @pytest.mark.parametrize(
        ("broker", "reason"),
        [
            ("amqp://me:secret@localhost//", r"amqp://me:\*\*\*@localhost//, which is not Redis"),
            ("redis://:secret@redis:6379/0", r"redis://:\*\*\*@redis:6379/0 is not on this machine"),
            ("rediss://localhost:6379/0", r"rediss://localhost:6379/0, which is not Redis"),
        ],
    )
    def test_other_brokers_are_left_alone(self, broker: str, reason: str, tmp_path: Path) -> None:
        url, note, environment = opened(found_with(broker, "db+sqlite:///results"), tmp_path / "unused", {})
        assert url is None
        assert re.search(reason, note)
        assert "CELERY_RESULT_BACKEND" not in environment
        assert not (tmp_path / "unused").exists()

    def test_a_local_backend_behind_another_broker_is_served(self, tmp_path: Path) -> None:
        url, _, environment = opened(found_with("amqp://elsewhere//", PLACEHOLDER), tmp_path, {})
        assert url
        assert environment["CELERY_BROKER_URL"] == "amqp://elsewhere//"
        assert environment["AIJOBS_STORE_URL"] == url

    def test_a_backend_class_of_the_apps_own_stays(self, tmp_path: Path) -> None:
        backend = PLACEHOLDER.replace("redis", "my_shop.Backend+redis")
        url, _, environment = opened(found_with(None, backend), tmp_path, {})
        assert "CELERY_RESULT_BACKEND" not in environment
        assert environment["AIJOBS_STORE_URL"] == url


def test_the_log_is_plain_in_a_file_and_coloured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    plain = StringIO()
    MergedLog(plain, lambda: None).write("api", "hello")
    assert plain.getvalue() == "   api | hello\n"
    assert written_to_terminal() == "\x1b[32m   api |\x1b[0m grüße ☕\r\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert written_to_terminal() == "   api | grüße ☕\r\n"


def written_to_terminal() -> str:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as stream, os.fdopen(master, "rb") as terminal:
        MergedLog(stream, lambda: None).write("api", "grüße ☕")
        return terminal.readline().decode()


def test_a_character_that_the_terminal_lacks_does_not_end_the_log() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="ascii") as stream, os.fdopen(reader, "rb") as pipe:
        MergedLog(stream, lambda: None).write("api", "☕")
        assert pipe.readline() == b"   api | \\u2615\n"


def test_a_log_that_nobody_reads_says_so_once() -> None:
    closed: list[bool] = []
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    log = MergedLog(stream, lambda: closed.append(True))
    log.write("api", "one")
    log.write("api", "two")
    assert closed == [True]
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_only_source_files_of_ones_own_are_watched(tmp_path: Path) -> None:
    changes: SimpleQueue[str] = SimpleQueue()
    for folder in ("src", ".venv", "src/__pycache__", "data"):
        (tmp_path / folder).mkdir()
    watcher = Watcher([tmp_path], tmp_path / "data", lambda: changes.put(""), lambda error: changes.put(str(error)))
    watcher.start()
    try:
        done = threading.Event()
        touching = threading.Thread(target=touch_until, args=(tmp_path, done))
        touching.start()
        assert changes.get(timeout=DEADLINE_SECONDS) == ""
        assert watcher.take() == [tmp_path / "src" / "shop.py"]
    finally:
        done.set()
        touching.join()
        watcher.stop()


def touch_until(root: Path, done: threading.Event) -> None:
    """Changes files until the watcher, which needs a moment to begin, has seen it."""
    names = (".venv/a.py", "src/__pycache__/b.py", "data/c.py", "src/notes.txt", "src/shop.py")
    turn = 0
    while not done.wait(0.05):
        turn += 1
        for name in names:
            (root / name).write_text(f"{turn}\n")


def test_what_cannot_be_watched_is_said(tmp_path: Path) -> None:
    failures: SimpleQueue[Exception] = SimpleQueue()
    watcher = Watcher([tmp_path / "missing"], tmp_path, lambda: None, failures.put)
    watcher.start()
    assert isinstance(failures.get(timeout=DEADLINE_SECONDS), FileNotFoundError)
    watcher.stop()
