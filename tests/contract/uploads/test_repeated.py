"""The same form again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.conftest import Api, assert_problem

from .forms import (
    PDF,
    kept,
    pdf,
    post,
)


def test_the_same_form_again_is_the_same_job(api: Api, folder: Path) -> None:
    headers = {"Idempotency-Key": "upload-1"}
    first = post(api, "read", pdf(), data={"title": "t"}, headers=headers)
    count = len(kept(folder))
    again = post(api, "read", pdf(filename="renamed.pdf"), data={"title": "t"}, headers=headers)
    assert again.json()["job_id"] == first.json()["job_id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert len(kept(folder)) == count


@pytest.mark.parametrize(("content", "title"), [(PDF + b"!", "t"), (PDF, "other")])
def test_another_form_with_the_same_key_is_a_conflict(api: Api, folder: Path, content: bytes, title: str) -> None:
    headers = {"Idempotency-Key": f"upload-{len(content)}-{title}"}
    assert post(api, "read", pdf(), data={"title": "t"}, headers=headers).status_code == 202
    count = len(kept(folder))
    response = post(api, "read", pdf(content=content), data={"title": title}, headers=headers)
    assert_problem(response, 422, "idempotency-conflict")
    assert len(kept(folder)) == count


def test_a_bad_idempotency_key(api: Api) -> None:
    assert_problem(post(api, "read", pdf(), headers={"Idempotency-Key": "a b"}), 400, "invalid-idempotency-key")
