"""Which addresses a webhook may have, by their text and by what they resolve to."""

from __future__ import annotations

import pytest

from aijobs import InvalidWebhook
from aijobs.webhooks import check_url
from aijobs.webhooks.address import Endpoint, read_url
from aijobs.webhooks.network import is_allowed

ACCEPTED = {
    "https://hooks.example.com": Endpoint("https", "hooks.example.com", 443, "/"),
    "https://hooks.example.com/": Endpoint("https", "hooks.example.com", 443, "/"),
    "HTTPS://Hooks.Example.COM/Path": Endpoint("https", "hooks.example.com", 443, "/Path"),
    "https://hooks.example.com:8443/a/b?c=d&e=%20f": Endpoint("https", "hooks.example.com", 8443, "/a/b?c=d&e=%20f"),
    "https://hooks.example.com:1/": Endpoint("https", "hooks.example.com", 1, "/"),
    "https://hooks.example.com:65535/": Endpoint("https", "hooks.example.com", 65535, "/"),
    "https://hooks.example.com?token=x": Endpoint("https", "hooks.example.com", 443, "/?token=x"),
    "https://hooks.example.com//double": Endpoint("https", "hooks.example.com", 443, "//double"),
    "https://hooks.example.com/a@b:c": Endpoint("https", "hooks.example.com", 443, "/a@b:c"),
    "https://a-1.b_2.example.com/": Endpoint("https", "a-1.b_2.example.com", 443, "/"),
    "https://bücher.example.com/": Endpoint("https", "xn--bcher-kva.example.com", 443, "/"),
    "https://faß.example.com/": Endpoint("https", "xn--fa-hia.example.com", 443, "/"),
    "https://例え.テスト/": Endpoint("https", "xn--r8jz45g.xn--zckzah", 443, "/"),
    "https://1and1.com/": Endpoint("https", "1and1.com", 443, "/"),
    "https://127.0.0.1.example.com/": Endpoint("https", "127.0.0.1.example.com", 443, "/"),
    "https://local.example.com/": Endpoint("https", "local.example.com", 443, "/"),
    "https://mylocalhost.com/": Endpoint("https", "mylocalhost.com", 443, "/"),
}

REFUSED = [
    # Not HTTPS, or no absolute URL.
    "",
    " ",
    "http://hooks.example.com/",
    "ftp://hooks.example.com/",
    "file:///etc/passwd",
    "gopher://hooks.example.com/",
    "unix:///var/run/docker.sock",
    "javascript:alert(1)",
    "//hooks.example.com/",
    "/path",
    "hooks.example.com",
    "https:hooks.example.com",
    "https:/hooks.example.com/",
    "https:\\\\hooks.example.com\\",
    "https://",
    "https:///path",
    " https://hooks.example.com/",
    "https://hooks.example.com/ ",
    # IPv4 in every form that some resolver takes.
    "https://127.0.0.1/",
    "https://127.1/",
    "https://127.0.1/",
    "https://0/",
    "https://0.0.0.0/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0X7F.0.0.1/",
    "https://0177.0.0.1/",
    "https://0177.1/",
    "https://017700000001/",
    "https://127.0.0.0x1/",
    "https://127.0.0.01/",
    "https://169.254.169.254/latest/meta-data/",
    "https://8.8.8.8/",
    "https://256.256.256.256/",
    "https://1.2.3.4.5/",
    "https://foo.0x/",
    "https://example.123/",
    # … and in other digits and dots, which Unicode maps to these.
    "https://１２７.0.0.1/",
    "https://127。0。0。1/",
    "https://①②⑦.0.0.1/",
    "https://١٢٧.0.0.1/",
    # IPv6.
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[fe80::1%25eth0]/",
    "https://[2606:4700::1111]:443/",
    "https://::1/",
    "https://[v1.x]/",
    # Names of the inside.
    "https://localhost/",
    "https://LOCALHOST:8000/",
    "https://app.localhost/",
    "https://localhost.localdomain/",
    "https://printer.local/",
    "https://metadata.google.internal/",
    "https://intranet/",
    "https://db.corp/",
    "https://nas.lan/",
    "https://nas.home.arpa/",
    "https://1.0.0.127.in-addr.arpa/",
    "https://redis:6379/",
    "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
    "https://ｌｏｃａｌｈｏｓｔ/",
    "https://app.ｌocal/",
    # Dots where none belong.
    "https://localhost./",
    "https://127.0.0.1./",
    "https://hooks.example.com./",
    "https://hooks..example.com/",
    "https://.example.com/",
    # User info, and what one reader takes for the host and another does not.
    "https://user@hooks.example.com/",
    "https://user:password@hooks.example.com/",
    "https://@hooks.example.com/",
    "https://hooks.example.com@127.0.0.1/",
    "https://hooks.example.com:443@127.0.0.1/",
    "https://127.0.0.1\\@hooks.example.com/",
    "https://hooks.example.com\\.evil.com/",
    "https://hooks.example.com#@127.0.0.1/",
    "https://hooks.example.com/#fragment",
    "https://hooks.example.com%2f@evil.com/",
    "https://%6c%6f%63alhost/",
    "https://hooks.example.com%00.evil.com/",
    # Ports.
    "https://hooks.example.com:/",
    "https://hooks.example.com:0/",
    "https://hooks.example.com:65536/",
    "https://hooks.example.com:99999999/",
    "https://hooks.example.com:-1/",
    "https://hooks.example.com:+443/",
    "https://hooks.example.com:443:443/",
    "https://hooks.example.com:８０/",
    "https://hooks.example.com: 443/",
    # Characters that end a header, a line or a text.
    "https://hooks.example.com/\r\nHost: evil",
    "https://hooks.example.com\r\n/",
    "https://hooks.exa\tmple.com/",
    "https://hooks.example.com/\x00",
    "https://hooks.example.com/a b",
    "https://hooks.example.com/é",
    "https://hooks.example.com/\ud800",
    "https://\ud800.example.com/",
    'https://hooks.example.com/"',
    "https://hooks.example.com/{x}",
    "https://hooks.example.com/\u202e",
    # No host names.
    "https://-hooks.example.com/",
    "https://hooks-.example.com/",
    "https://*.example.com/",
    "https://a,b.example.com/",
    f"https://{'a' * 64}.example.com/",
    f"https://{'a.' * 130}example.com/",
    "https://\u200d.example.com/",
    "https://xn--\u00e9.example.com/",
    # Too long.
    f"https://hooks.example.com/{'a' * 2_048}",
]

DEVELOPMENT = {
    "http://localhost:8000/hook": Endpoint("http", "localhost", 8000, "/hook"),
    "http://127.0.0.1:8000/": Endpoint("http", "127.0.0.1", 8000, "/"),
    "http://web/": Endpoint("http", "web", 80, "/"),
    "https://db.internal/": Endpoint("https", "db.internal", 443, "/"),
}

NOT_EVEN_THEN = [
    "ftp://localhost/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://[::1]/",
    "http://user@localhost/",
    "http://localhost./",
    "http://local host/",
]


@pytest.mark.parametrize("url", ACCEPTED)
def test_an_address_is_read(url: str) -> None:
    check_url(url)
    assert read_url(url) == ACCEPTED[url]


@pytest.mark.parametrize("url", REFUSED, ids=ascii)
def test_a_hostile_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidWebhook) as caught:
        check_url(url)
    text = str(caught.value)
    assert text.startswith("The webhook's address ")
    assert text.endswith("HTTPS, and a public host name.")


@pytest.mark.parametrize(
    "url",
    [
        "SECRET",
        "ftp://secret.example.com/",
        "https://secret:secret@example.com/",
        "https://secret/",
        "https://se|cret.example.com/",
        "https://secretü\ud800.com/",
        "https://example.com/secret#secret",
        "https://example.com/secret token",
        "https://example.com:secret/",
        "https://example.com/" + "secret" * 500,
    ],
    ids=ascii,
)
def test_what_is_refused_is_not_repeated(url: str) -> None:
    with pytest.raises(InvalidWebhook) as caught:
        check_url(url)
    assert "secret" not in str(caught.value).lower()


@pytest.mark.parametrize("url", DEVELOPMENT)
def test_development_may_open_private_addresses(url: str) -> None:
    assert read_url(url, allow_private=True) == DEVELOPMENT[url]
    assert read_url(url, allow_private=True).is_literal == ("127.0.0.1" in url)
    with pytest.raises(InvalidWebhook):
        check_url(url)


@pytest.mark.parametrize("url", NOT_EVEN_THEN)
def test_development_opens_no_more_than_that(url: str) -> None:
    with pytest.raises(InvalidWebhook):
        check_url(url, allow_private=True)


def test_the_path_is_not_shown() -> None:
    assert "token" not in repr(read_url("https://hooks.example.com/token?token"))


PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "192.0.1.1", "198.17.0.1", "2606:4700::1111", "2a00::1"]
PRIVATE = ["127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "::1", "fd00::1"]
SPECIAL = [
    "0.0.0.0",
    "0.1.2.3",
    "100.64.0.1",
    "100.127.255.255",
    "169.254.169.254",
    "192.0.0.1",
    "192.0.0.9",
    "192.0.0.170",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.175.48.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::8.8.8.8",
    "::ffff:8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:0:8.8.8.8",
    "64:ff9b::808:808",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:1::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "2620:4f:8000::1",
    "3fff::1",
    "5f00::1",
    "4000::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2606:4700::1111%eth0",
    "",
    "localhost",
    "127.1",
    "0177.0.0.1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_allowed(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_allowed_in_development_only(address: str) -> None:
    assert not is_allowed(address)
    assert is_allowed(address, allow_private=True)


@pytest.mark.parametrize("address", SPECIAL)
def test_a_special_address_is_never_allowed(address: str) -> None:
    assert not is_allowed(address)
    assert not is_allowed(address, allow_private=True)
