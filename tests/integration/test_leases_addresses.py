"""Leases over every kind of broker address: sockets, TLS, Sentinel, and a database shared by a key prefix."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aijobs.broker.keeper import Keeper
from aijobs.broker.leases import lease_entries
from aijobs.embedded import find_server_binary, start_server
from tests.helpers import wait_until

from .test_leases import Stage, eventually_clean


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with start_server(use_environment=False) as server:
        yield server.url


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.RedisError):
        return bool(client.ping())
    return False


def assert_leases_work(stage: Stage, prefix: str = "") -> None:
    """A job runs under a lease; one that is running when its worker dies runs on the next worker."""
    with stage.worker("victim") as victim:
        stage.send("lost", 60)
        stage.until_runs(1)
        assert stage.held(prefix) == 1
        victim.kill()
    with stage.worker("heir", "threads"):
        lost = stage.until_runs(2)[1]
        assert (lost["worker"], lost["deliveries"]) == ("heir@host", 1)
        wait_until(lambda: stage.held(prefix) == 0, "the acknowledgement")
        stage.send("next")
        stage.until_runs(3)
    eventually_clean(stage)
    assert not stage.client.keys("*aijobs:sessions")


def test_a_key_prefix(server: str, tmp_path: Path) -> None:
    stage = Stage(server, tmp_path, "leased", {"broker_transport_options": {"global_keyprefix": "team:"}})
    assert_leases_work(stage, "team:")


def test_a_unix_socket(tmp_path: Path, processes: list[subprocess.Popen[bytes]]) -> None:
    port = free_port()
    path = Path(f"/tmp/aijobs-{os.getpid()}-{port}.sock")  # A long path would not fit into a socket's address.
    command = [str(find_server_binary()), "--port", str(port), "--unixsocket", str(path), "--save", ""]
    processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path))
    url = f"redis://127.0.0.1:{port}/0"
    wait_until(lambda: answers(redis.Redis.from_url(url)), "the server")
    assert_leases_work(Stage(url, tmp_path, "leased", broker=f"redis+socket://{path}?virtual_host=0"))


@dataclass(frozen=True)
class Watched:
    """A server, and the address of a sentinel that knows it."""

    url: str
    sentinel: str
    conf: dict[str, Any]


@pytest.fixture
def watched(tmp_path: Path, processes: list[subprocess.Popen[bytes]]) -> Watched:
    binary = str(find_server_binary())
    port, sentinel = free_port(), free_port()
    url = f"redis://127.0.0.1:{port}/0"
    server = [binary, "--port", str(port), "--save", ""]
    processes.append(subprocess.Popen(server, stdout=subprocess.DEVNULL, cwd=tmp_path))
    wait_until(lambda: answers(redis.Redis.from_url(url)), "the server")
    (tmp_path / "sentinel.conf").write_text(f"port {sentinel}\nsentinel monitor aijobs 127.0.0.1 {port} 1\n")
    watch = [binary, str(tmp_path / "sentinel.conf"), "--sentinel"]
    processes.append(subprocess.Popen(watch, stdout=subprocess.DEVNULL, cwd=tmp_path))
    wait_until(lambda: answers(redis.Redis(port=sentinel)), "the sentinel")
    return Watched(url, f"sentinel://127.0.0.1:{sentinel}", {"broker_transport_options": {"master_name": "aijobs"}})


def test_sentinels(watched: Watched, tmp_path: Path) -> None:
    # The first address answers nobody, so that kombu has to go on to the second.
    addresses = f"sentinel://127.0.0.1:{free_port()};{watched.sentinel}"
    assert_leases_work(Stage(watched.url, tmp_path, "leased", watched.conf, broker=addresses))


def test_a_sentinel_that_is_down_is_asked_once(watched: Watched, tmp_path: Path) -> None:
    with broken_server() as (port, asked):
        brokers = f"sentinel://127.0.0.1:{port};{watched.sentinel}"
        stage = Stage(watched.url, tmp_path, "leased", watched.conf, broker=brokers)
        with stage.sender.connection_for_write() as connection:
            connection.default_channel.client.ping()
        assert len(asked) == 1
        keeper = Keeper(lease_entries(stage.sender))
        keeper.start()
        try:
            wait_until(lambda: renewals(stage.client), "the renewal")
        finally:
            keeper.stop()
        # The process connects twice, once by way of kombu.
        assert len(asked) <= 3


def renewals(client: Any) -> int:
    return int(client.info("commandstats").get("cmdstat_eval", {}).get("calls", 0))


@contextlib.contextmanager
def broken_server() -> Iterator[tuple[int, list[Any]]]:
    """A port that takes connections and closes them, and those that it took."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken: list[Any] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, address = listener.accept()
                taken.append(address)
                client.close()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield int(listener.getsockname()[1]), taken
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_sentinels_without_a_masters_name_are_refused_by_name(server: str, tmp_path: Path) -> None:
    stage = Stage(server, tmp_path, "leased", broker=f"sentinel://127.0.0.1:{free_port()}")
    with stage.starting("refused") as worker:
        assert worker.process.wait(60) != 0
    assert "broker_transport_options has no 'master_name'" in worker.log.read_text()


def test_tls(server: str, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with tls_in_front_of(server, certificate) as port:
        query = f"ssl_cert_reqs=required&ssl_ca_certs={certificate}"
        assert_leases_work(Stage(server, tmp_path, "leased", broker=f"rediss://localhost:{port}/0?{query}"))


def make_certificate(folder: Path) -> Path:
    """A file with the key and the certificate of `localhost`, which vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = folder / "server.pem"
    path.write_bytes(key.private_bytes(pem, *plain) + certificate.public_bytes(pem))
    return path


@contextlib.contextmanager
def tls_in_front_of(url: str, certificate: Path) -> Iterator[int]:
    """Ends TLS as a load balancer does; the server in the wheel is built without."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    port = redis.ConnectionPool.from_url(url).connection_kwargs["port"]
    listener = socket.create_server(("127.0.0.1", 0))
    connections: list[Any] = [listener]

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=join, args=(client,), daemon=True).start()

    def join(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            encrypted = context.wrap_socket(client, server_side=True)
            plain = socket.create_connection(("127.0.0.1", port))
            connections.extend((encrypted, plain))
            for pump in (copier(encrypted, plain), copier(plain, encrypted)):
                threading.Thread(target=pump, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        for one in connections:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def copier(source: socket.socket, target: socket.socket) -> Callable[[], None]:
    def copy() -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    return copy
