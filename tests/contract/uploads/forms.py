"""An app whose tasks take files, and forms with them."""

from __future__ import annotations

import json
import socket
from datetime import date
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
from celery import Celery
from pydantic import BaseModel

from aijobs import FileRules, ProgressTask, UploadedFile
from tests.contract.conftest import Api, TaskDecorator

PDF = b"%PDF-1.7\n" + bytes(range(256)) * 40
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0" * 60
FILE_BYTES, UPLOAD_BYTES, UPLOAD_FILES = 600_000, 2_500_000, 3

#: What a form says in httpx: parameter, then name, content and, if any, the declared type.
Part = tuple[str, tuple[str, bytes] | tuple[str, bytes, str]]


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Options(BaseModel):
    language: str
    nested: list[Options] = []


def make_celery(url: str, broker: str | None = None) -> Celery:
    app = Celery("uploads", broker=broker or url, backend=url, set_as_current=False)
    task: TaskDecorator = app.task

    @task(base=ProgressTask, shared=False, name="uploads.read")
    def read(
        document: UploadedFile,
        title: str = "",
        pages: int | None = None,
        level: Level = Level.LOW,
        since: date | None = None,
        exact: bool = False,
        tags: list[str] = [],  # noqa: B006
        options: Options | None = None,
        free: Any = None,
    ) -> dict[str, Any]:
        """Read a document."""
        return {}

    @task(base=ProgressTask, shared=False, name="uploads.small", bind=True)
    def small(
        self: Any,
        document: Annotated[UploadedFile, FileRules(extensions={".pdf"}, max_bytes=1_000)],
        cover: Annotated[UploadedFile | None, FileRules(content_types={"image/*"})] = None,
    ) -> None: ...

    @task(base=ProgressTask, shared=False, name="uploads.merge")
    def merge(parts: list[UploadedFile], title: str) -> None: ...

    @task(base=ProgressTask, shared=False, name="uploads.nothing")
    def nothing(x: int = 0) -> None: ...

    @task(base=ProgressTask, shared=False, name="uploads.anything")
    def anything(data: Annotated[UploadedFile, FileRules(extensions=None)], /, **others: str) -> None: ...

    return app


def kept(folder: Path) -> set[Path]:
    """Every file in the store, complete or not."""
    return {path for path in folder.rglob("*") if path.is_file()}


def post(api: Api, path: str, *files: Part, data: Any = None, **options: Any) -> httpx.Response:
    return api.client.post(f"/jobs/{path}", files=list(files), data=data, **options)


def pdf(name: str = "document", content: bytes = PDF, filename: str = "report.pdf") -> Part:
    return name, (filename, content)


def arguments(api: Api, response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 202, response.text
    stored = api.job(response.json()["job_id"]).arguments_json
    assert stored is not None
    args, kwargs = json.loads(stored)
    assert args == []
    named: dict[str, Any] = kwargs
    return named


def part(disposition: str, content: bytes, content_type: str = "", more: bytes = b"") -> bytes:
    head = f"Content-Disposition: form-data; {disposition}\r\n".encode()
    declared = f"Content-Type: {content_type}\r\n".encode() if content_type else b""
    return head + declared + more + b"\r\n" + content


def pdf_part(content: bytes = PDF, name: str = "document") -> bytes:
    return part(f'name="{name}"; filename="a.pdf"', content, "application/pdf")


def multipart(*parts: bytes, boundary: str = "B") -> bytes:
    line = f"--{boundary}\r\n".encode()
    return b"".join(line + one + b"\r\n" for one in parts) + f"--{boundary}--\r\n".encode()


def send(api: Api, path: str, body: bytes, boundary: str = "B", **headers: str) -> httpx.Response:
    declared = {"Content-Type": f"multipart/form-data; boundary={boundary}", **headers}
    return api.client.post(f"/jobs/{path}", content=body, headers=declared)


def connect(api: Api, head: str, body: bytes) -> socket.socket:
    where = urlsplit(api.url)
    connection = socket.create_connection((where.hostname, where.port), timeout=30)
    lines = [head, "Host: test", "Content-Type: multipart/form-data; boundary=B"]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return connection
