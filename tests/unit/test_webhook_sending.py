"""One request to a receiver: to the address that was checked, in time, without detours. Real servers, real TLS."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aijobs.webhooks.address import Endpoint, read_url
from aijobs.webhooks.sending import MOST_READ, Answer, look_up, post, tls_context
from tests.docs.reader import free_port
from tests.integration.receiver import Receiver, receiving, status

HOST = "hooks.example.com"
BODY = b'{"type":"job.completed"}'
HEADERS = {"content-type": "application/json", "webhook-id": "a_1"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def answers(*addresses: str) -> Callable[[str], Sequence[str]]:
    """A resolver that knows one host."""

    def resolve(host: str) -> Sequence[str]:
        assert host == HOST
        return addresses

    return resolve


def endpoint(receiver: Receiver, path: str = "/", scheme: str = "http") -> Endpoint:
    return read_url(receiver.url(path, HOST, scheme), allow_private=True)


def send(receiver: Receiver, path: str = "/", *, timeout: float = 30) -> Answer:
    resolve = answers("127.0.0.1")
    return post(endpoint(receiver, path), HEADERS, BODY, resolve=resolve, allow_private=True, timeout=timeout)


def test_a_request_is_what_was_to_be_sent(receiver: Receiver) -> None:
    assert send(receiver, "/a/b?c=%20d") == Answer(204)
    (got,) = receiver.got
    assert (got.path, got.body) == ("/a/b?c=%20d", BODY)
    assert got.headers == {
        "host": f"{HOST}:{receiver.port}",
        "content-length": str(len(BODY)),
        "content-type": "application/json",
        "webhook-id": "a_1",
    }


@pytest.mark.parametrize("code", [200, 201, 204, 299])
def test_2xx_is_success(receiver: Receiver, code: int) -> None:
    receiver.replies["/"] = status(code)
    assert send(receiver).delivered


@pytest.mark.parametrize("code", [300, 301, 302, 303, 307, 308, 400, 410, 429, 500, 599])
def test_nothing_else_is_and_redirects_are_not_followed(receiver: Receiver, code: int) -> None:
    receiver.replies["/"] = status(code, Location=receiver.url("/elsewhere"), Retry_After="7")
    answer = send(receiver)
    assert (answer, answer.delivered) == (Answer(code, retry_after="7"), False)
    assert [got.path for got in receiver.got] == ["/"]


def test_a_host_that_resolves_to_anything_private_is_not_connected_to(receiver: Receiver) -> None:
    for addresses in (["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"], ["2002:7f00:1::"], ["nonsense"]):
        answer = post(endpoint(receiver), HEADERS, BODY, resolve=answers(*addresses))
        assert answer == Answer(error="address")
    assert receiver.got == []


def test_the_address_that_was_checked_is_the_one_connected_to(receiver: Receiver) -> None:
    """A name that is resolved again, to be connected to, may lead elsewhere by then (DNS rebinding)."""
    asked: list[str] = []

    def resolve(host: str) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    assert post(endpoint(receiver), HEADERS, BODY, resolve=resolve, allow_private=True).delivered
    assert asked == [HOST]
    # It is looked up, and checked, for each attempt.
    assert post(endpoint(receiver), HEADERS, BODY, resolve=resolve, allow_private=True) == Answer(error="connect")
    assert asked == [HOST, HOST]
    assert post(endpoint(receiver), HEADERS, BODY, resolve=resolve) == Answer(error="address")
    assert len(receiver.got) == 1


def test_an_address_that_does_not_answer_gives_way_to_the_next(receiver: Receiver) -> None:
    resolve = answers("127.0.0.3", "127.0.0.2", "127.0.0.1")
    assert post(endpoint(receiver), HEADERS, BODY, resolve=resolve, allow_private=True).delivered


def test_nobody_there(receiver: Receiver) -> None:
    nowhere = Receiver(free_port())
    assert send(nowhere) == Answer(error="connect")
    assert post(endpoint(receiver), HEADERS, BODY, resolve=answers()) == Answer(error="dns")
    assert post(read_url("https://nowhere.invalid/"), HEADERS, BODY) == Answer(error="dns")


def test_ipv4_addresses_are_not_looked_up_in_development(receiver: Receiver) -> None:
    there = read_url(receiver.url("/"), allow_private=True)
    assert post(there, HEADERS, BODY, resolve=answers(), allow_private=True).delivered


def test_the_systems_resolver_gives_each_address_once() -> None:
    found = look_up("localhost")
    assert set(found) <= {"127.0.0.1", "::1"}
    assert len(found) == len(set(found)) > 0


def test_a_proxy_of_the_environment_is_not_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url("/"))
            monkeypatch.setenv(name.lower(), proxy.url("/"))
        assert send(receiver).delivered
        assert proxy.got == []


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Set when the test is over, for servers that wait."""
    event = threading.Event()
    yield event
    event.set()


def test_a_resolver_that_hangs_is_not_waited_for(receiver: Receiver, released: threading.Event) -> None:
    def hang(host: str) -> Sequence[str]:
        released.wait()
        return []

    assert post(endpoint(receiver), HEADERS, BODY, resolve=hang, timeout=0.1) == Answer(error="timeout")


def test_a_receiver_that_does_not_answer_is_not_waited_for(receiver: Receiver, released: threading.Event) -> None:
    def hang(handler: BaseHTTPRequestHandler, count: int) -> None:
        released.wait()

    receiver.replies["/"] = hang
    assert send(receiver, timeout=0.3) == Answer(error="timeout")


def test_a_receiver_that_drips_its_answer_gains_no_time(receiver: Receiver, released: threading.Event) -> None:
    def drip(handler: BaseHTTPRequestHandler, count: int) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not released.wait(0.02):
            handler.wfile.write(b"x")

    receiver.replies["/"] = drip
    assert send(receiver, timeout=0.5) == Answer(error="timeout")


def test_a_2xx_counts_however_long_its_body_takes(receiver: Receiver, released: threading.Event) -> None:
    def drip(handler: BaseHTTPRequestHandler, count: int) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not released.wait(0.02):
            handler.wfile.write(b"x")

    receiver.replies["/"] = drip
    assert send(receiver, timeout=0.5) == Answer(200)


def test_no_more_than_the_beginning_of_a_body_is_read(receiver: Receiver) -> None:
    cut_off = threading.Event()

    def endless(handler: BaseHTTPRequestHandler, count: int) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(b"%x\r\n%s\r\n" % (MOST_READ, b"x" * MOST_READ))
        cut_off.set()

    receiver.replies["/"] = endless
    assert send(receiver) == Answer(200)
    assert cut_off.wait(30)


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000,
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
    ],
    ids=["text", "nothing", "endless header", "bad header", "bad status"],
)
def test_what_is_no_http_is_an_error(receiver: Receiver, text: bytes) -> None:
    def reply(handler: BaseHTTPRequestHandler, count: int) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(text)
        handler.close_connection = True

    receiver.replies["/"] = reply
    assert send(receiver) == Answer(error="protocol")


# --- TLS -----------------------------------------------------------------------------------------------------------


class Authority:
    """Issues certificates that whoever trusts its own accepts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.path = folder / "ca.pem"
        self.path.write_bytes(_pem(self._issue("authority", self._key, x509.BasicConstraints(True, None))))

    def context(self, host: str, *, age_days: int = 0) -> ssl.SSLContext:
        """A server's, with a certificate for a host."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._issue("server", key, x509.SubjectAlternativeName([x509.DNSName(host)]), age_days)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = self._folder / f"{host}-{age_days}.pem"
        path.write_bytes(_pem(certificate) + private)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _issue(
        self, name: str, key: ec.EllipticCurvePrivateKey, kind: x509.ExtensionType, age_days: int = 0
    ) -> x509.Certificate:
        begin = datetime.now(UTC) - timedelta(days=age_days + 1)
        is_authority = isinstance(kind, x509.BasicConstraints)
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "crl_sign",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        return (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named("authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=2))
            .add_extension(kind, critical=is_authority)
            .add_extension(x509.KeyUsage(True, key_cert_sign=is_authority, **usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    """One that this process trusts."""
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.path))
    tls_context.cache_clear()
    yield made
    tls_context.cache_clear()


def send_by_tls(receiver: Receiver) -> Answer:
    there = endpoint(receiver, scheme="https")
    return post(there, HEADERS, BODY, resolve=answers("127.0.0.1"), allow_private=True, timeout=30)


def test_tls_is_for_the_name_though_an_address_is_connected_to(authority: Authority) -> None:
    context = authority.context(HOST)
    asked_for: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked_for.append(name)
    with receiving(context=context) as receiver:
        assert send_by_tls(receiver).delivered
    assert asked_for == [HOST]
    assert receiver.got[0].headers["host"] == f"{HOST}:{receiver.port}"


def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    with receiving(context=authority.context("other.example.com")) as receiver:
        assert send_by_tls(receiver) == Answer(error="tls")
    assert receiver.got == []


def test_an_expired_certificate_is_refused(authority: Authority) -> None:
    with receiving(context=authority.context(HOST, age_days=10)) as receiver:
        assert send_by_tls(receiver) == Answer(error="tls")
    assert receiver.got == []


def test_a_certificate_of_nobody_known_is_refused(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with receiving(context=Authority(tmp_path / "other").context(HOST)) as receiver:
        assert send_by_tls(receiver) == Answer(error="tls")
    assert receiver.got == []


def test_a_server_without_tls_is_refused(authority: Authority, receiver: Receiver) -> None:
    assert send_by_tls(receiver) == Answer(error="tls")
    assert receiver.got == []
