"""From Celery's and everybody's Redis URLs to a store, without a password in any text."""

from __future__ import annotations

import pytest

from aijobs import ConfigurationError, Settings
from aijobs.store import open_store
from aijobs.store.connect import (
    connection_options,
    database_of,
    hide_password,
    is_store_url,
    normalize,
    same_server,
)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("redis://", "redis://localhost/0"),
        ("redis://localhost", "redis://localhost/0"),
        ("redis://h:1", "redis://h:1/0"),
        ("redis://h:1/", "redis://h:1/0"),
        ("redis://h:1/3", "redis://h:1/3"),
        ("redis://h:1?db=3", "redis://h:1?db=3"),
        ("redis://user:p%40ss@h:1/2", "redis://user:p%40ss@h:1/2"),
        ("redis://:p@h", "redis://:p@h/0"),
        ("rediss://h/0?ssl_cert_reqs=CERT_REQUIRED", "rediss://h/0?ssl_cert_reqs=required"),
        ("rediss://h/0?ssl_cert_reqs=CERT_NONE", "rediss://h/0?ssl_cert_reqs=none"),
        ("rediss://h/0?ssl_cert_reqs=optional", "rediss://h/0?ssl_cert_reqs=optional"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("redis+socket:///run/redis.sock?virtual_host=5", "unix:///run/redis.sock?db=5"),
        ("socket:///run/redis.sock?virtual_host=5", "unix:///run/redis.sock?db=5"),
        ("unix://user:p@/run/redis.sock?db=2", "unix://user:p@/run/redis.sock?db=2"),
        ("redis://[::1]:6380/1", "redis://[::1]:6380/1"),
    ],
)
def test_urls_in_the_form_that_redis_py_reads(url: str, normal: str) -> None:
    assert normalize(url) == normal
    assert is_store_url(url)
    connection_options(normal)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://user:p%40ss@h:1/2", {"username": "user", "password": "p@ss", "host": "h", "port": 1, "db": 2}),
        ("redis+socket:///run/redis.sock?virtual_host=5", {"path": "/run/redis.sock", "db": 5}),
        ("redis://", {"host": "localhost", "db": 0}),
    ],
)
def test_what_a_url_means(url: str, options: dict[str, object]) -> None:
    assert connection_options(normalize(url)).items() >= options.items()
    assert database_of(normalize(url)) == options["db"]


@pytest.mark.parametrize(
    "url",
    [
        "amqp://guest:sesame@h//",
        "sqs://",
        "rpc://",
        "db+sqlite:///x.db",
        "sentinel://:sesame@h",
        "localhost:6379",
        "redis",
        "",
    ],
)
def test_what_is_no_redis_cannot_hold_records(url: str) -> None:
    assert not is_store_url(url)
    with pytest.raises(ConfigurationError, match=r"cannot hold .* Set AIJOBS_STORE_URL") as caught:
        open_store(url, Settings())
    assert "sesame" not in str(caught.value)


def test_no_url_is_no_store_url() -> None:
    assert not is_store_url(None)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:sesame@h:port/0",
        "redis://:open/sesame@h:1/0",
        "redis://:open#sesame@h:1/0",
        "redis://h:99999/0",
        "redis://[::1/0",
        "redis://h:1/0?socket_timeout=soon",
        "redis://h:1/0?db=first",
    ],
)
def test_a_url_with_a_mistake_is_refused_with_what_to_look_for(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^The store URL '.*' cannot be read: .*percent") as caught:
        open_store(url, Settings())
    assert "sesame" not in f"{caught.value} {caught.value.__cause__}"
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://user@h:1/0", "redis://user@h:1/0"),
        ("redis://user:sesame@h:1/0", "redis://user:***@h:1/0"),
        ("redis://:sesame@h", "redis://:***@h"),
        ("redis://:open@sesame@h:1/0", "redis://:***@h:1/0"),
        ("redis://:open:sesame@h:1/0", "redis://:***@h:1/0"),
        ("redis://:open/sesame@h:1/0", "redis://:***@h:1/0"),
        ("redis://:open?sesame@h:1/0", "redis://:***@h:1/0"),
        ("redis://:open#sesame@h:1/0", "redis://:***@h:1/0"),
        ("redis://h:1/0?password=sesame&db=2", "redis://h:1/0?password=***&db=2"),
        ("redis://h:1/0?PASSWORD=sesame", "redis://h:1/0?PASSWORD=***"),
        ("rediss://h:1/0?ssl_password=sesame", "rediss://h:1/0?ssl_password=***"),
        ("unix://:sesame@/run/redis.sock?db=2", "unix://:***@/run/redis.sock?db=2"),
        ("redis://:sesame@a:1/0;redis://:sesame@b:1/0", "redis://:***@b:1/0"),
        ("amqp://guest:sesame@h:5672//", "amqp://guest:***@h:5672//"),
        ("not a url", "not a url"),
        ("", ""),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert hide_password(url) == shown


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("redis://h:1/0", "redis://h:1/0", True),
        ("redis://h/0", "redis://h:6379/0", True),
        ("redis://", "redis://localhost:6379/0", True),
        ("redis://:a@h/0", "redis://:b@h/0", True),
        ("redis://h/0", "redis://h/1", False),
        ("redis://h/0", "redis://g/0", False),
        ("redis://h:1/0", "redis://h:2/0", False),
        ("unix:///a.sock", "unix:///a.sock", True),
        ("unix:///a.sock", "unix:///b.sock", False),
        ("unix:///a.sock", "redis://localhost", False),
    ],
)
def test_whether_two_urls_mean_one_database(one: str, other: str, same: bool) -> None:
    assert same_server(normalize(one), connection_options(normalize(other))) is same
