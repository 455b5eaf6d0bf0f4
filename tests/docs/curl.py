"""What the pages use of curl, for machines that do not have it."""

from __future__ import annotations

import argparse
from http.client import HTTPConnection
from urllib.parse import urlsplit

_TIMEOUT_SECONDS = 60.0


def main() -> None:
    """Sends one request and writes the answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("-i", dest="with_head", action="store_true")
    parser.add_argument("-N", dest="unbuffered", action="store_true")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", dest="body")
    print(answer(parser.parse_args()))


def answer(asked: argparse.Namespace) -> str:
    """The answer as curl writes it."""
    where = urlsplit(f"http://{asked.url}")
    connection = HTTPConnection(where.netloc, timeout=_TIMEOUT_SECONDS)
    method = asked.method or ("GET" if asked.body is None else "POST")
    headers = dict(header.split(": ", 1) for header in asked.headers)
    connection.request(method, f"{where.path}?{where.query}", asked.body, headers)
    response = connection.getresponse()
    head = [
        f"HTTP/1.1 {response.status} {response.reason}",
        *(f"{name}: {value}" for name, value in response.getheaders()),
    ]
    return "\n".join([*head, "", ""] if asked.with_head else []) + response.read().decode()


if __name__ == "__main__":
    main()
