"""What the pages use of curl, for machines that do not have it."""

from __future__ import annotations

import argparse
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

_TIMEOUT_SECONDS = 60.0
_BOUNDARY = "a-form-of-a-page"


def main() -> None:
    """Sends one request and writes the answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("-i", dest="with_head", action="store_true")
    parser.add_argument("-N", dest="unbuffered", action="store_true")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", dest="body")
    parser.add_argument("-F", dest="parts", action="append", default=[])
    print(answer(parser.parse_args()))


def answer(asked: argparse.Namespace) -> str:
    """The answer as curl writes it."""
    where = urlsplit(f"http://{asked.url}")
    connection = HTTPConnection(where.netloc, timeout=_TIMEOUT_SECONDS)
    body = form(asked.parts) if asked.parts else asked.body
    method = asked.method or ("GET" if body is None else "POST")
    declared = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"} if asked.parts else {}
    headers = declared | dict(header.split(": ", 1) for header in asked.headers)
    connection.request(method, f"{where.path}?{where.query}", body, headers)
    response = connection.getresponse()
    head = [
        f"HTTP/1.1 {response.status} {response.reason}",
        *(f"{name}: {value}" for name, value in response.getheaders()),
    ]
    return "\n".join([*head, "", ""] if asked.with_head else []) + response.read().decode()


def form(parts: list[str]) -> bytes:
    """A form of fields (`name=text`) and files (`name=@path`)."""
    return b"".join(_part(*part.split("=", 1)) for part in parts) + f"--{_BOUNDARY}--\r\n".encode()


def _part(name: str, value: str) -> bytes:
    filename = f'; filename="{value[1:]}"' if value.startswith("@") else ""
    content = Path(value[1:]).read_bytes() if filename else value.encode()
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'
    return head.encode() + content + b"\r\n"


if __name__ == "__main__":
    main()
