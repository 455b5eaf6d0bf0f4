"""The list of jobs: filters, pages, cursors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from celery import Celery

from aijobs import setup
from aijobs.http import job_router
from aijobs.job import JobStatus

from .conftest import Api, assert_problem, make_celery, serving


@pytest.fixture(scope="module")
def ids(api: Api) -> dict[str, list[str]]:
    """Five jobs of each status, in the order of their creation."""
    found: dict[str, list[str]] = {status: [] for status in JobStatus}
    for _ in range(5):
        found["queued"].append(api.queue())
        found["running"].append(api.run().job_id)
        claim = api.run(task="nightly", body={})
        api.succeed(claim)
        found["success"].append(claim.job_id)
        claim = api.run()
        api.fail(claim)
        found["failed"].append(claim.job_id)
        revoked = api.queue()
        api.client.delete(f"/jobs/{revoked}")
        found["revoked"].append(revoked)
    return found


def listed(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [job["job_id"] for job in response.json()["jobs"]]


def pages(api: Api, **query: Any) -> Iterator[list[str]]:
    """All pages of a listing."""
    cursor: str | None = None
    while True:
        response = api.get("", params={**query, **({"cursor": cursor} if cursor else {})})
        yield listed(response)
        cursor = response.json()["next_cursor"]
        assert response.json()["has_more"] == (cursor is not None)
        if cursor is None:
            return


def test_newest_first(api: Api, ids: dict[str, list[str]]) -> None:
    response = api.get("")
    created = [job["created_at"] for job in response.json()["jobs"]]
    assert created == sorted(created, reverse=True)
    assert set(listed(response)) == {one for some in ids.values() for one in some}
    assert (response.json()["has_more"], response.json()["next_cursor"]) == (False, None)


@pytest.mark.parametrize("limit", [1, 4, 25])
def test_pages_are_the_list_in_parts(api: Api, ids: dict[str, list[str]], limit: int) -> None:
    parts = list(pages(api, limit=limit))
    assert all(len(part) <= limit for part in parts)
    assert [one for part in parts for one in part] == listed(api.get("", params={"limit": 100}))


def test_a_page_is_not_moved_by_newer_jobs(api: Api, ids: dict[str, list[str]]) -> None:
    first = api.get("", params={"limit": 2, "status": "running"}).json()
    newer = api.run().job_id
    second = api.get("", params={"limit": 2, "status": "running", "cursor": first["next_cursor"]})
    assert listed(second) == ids["running"][2:0:-1]
    api.succeed(api.start(api.queue()))
    api.client.delete(f"/jobs/{newer}")


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        *((status.value, status.value) for status in JobStatus),
        ("pending", "queued"),
        ("processing", "running"),
        ("started", "running"),
        ("completed", "success"),
        ("succeeded", "success"),
        ("failure", "failed"),
        ("cancelled", "revoked"),
        ("canceled", "revoked"),
        ("SUCCESS", "success"),
    ],
)
def test_by_status(api: Api, ids: dict[str, list[str]], asked: str, status: str) -> None:
    response = api.get("", params={"status": asked, "limit": 100})
    assert set(ids[status]) <= set(listed(response))
    assert {job["status"] for job in response.json()["jobs"]} == {status}


def test_by_several_statuses(api: Api, ids: dict[str, list[str]]) -> None:
    found = listed(api.get("?status=failed&status=revoked"))
    assert set(ids["failed"] + ids["revoked"]) <= set(found)
    assert not set(ids["success"]) & set(found)


def test_by_task(api: Api, ids: dict[str, list[str]]) -> None:
    for task in ("nightly", "contract.nightly"):
        assert listed(api.get("", params={"task": task})) == ids["success"][::-1]
    assert listed(api.get("", params={"task": "no.such.task"})) == []
    assert listed(api.get("?task=%00%0a*")) == []


def test_by_time(api: Api, ids: dict[str, list[str]]) -> None:
    middle = api.get(f"/{ids['failed'][2]}").json()["created_at"]
    later = listed(api.get("", params={"created_after": middle, "limit": 100}))
    earlier = listed(api.get("", params={"created_before": middle, "limit": 100}))
    assert ids["failed"][2] in later
    assert ids["failed"][3] in later
    assert ids["failed"][1] in earlier
    assert not set(later) & set(earlier)
    assert listed(api.get("", params={"created_after": "2999-01-01T00:00:00"})) == []


def test_by_batch(api: Api) -> None:
    assert listed(api.get("?batch_id=none")) == []


def test_a_cursor_is_good_for_its_filters_only(api: Api, ids: dict[str, list[str]]) -> None:
    cursor = api.get("", params={"limit": 2, "status": "failed"}).json()["next_cursor"]
    assert api.get("", params={"limit": 50, "status": "failed", "cursor": cursor}).status_code == 200
    for other in ({}, {"status": "queued"}, {"status": "failed", "task": "embed"}):
        assert_problem(api.get("", params={**other, "cursor": cursor}), 400, "invalid-cursor")


def test_a_cursor_cannot_be_changed(api: Api, ids: dict[str, list[str]]) -> None:
    cursor = api.get("", params={"limit": 2}).json()["next_cursor"]
    for place in range(0, len(cursor), 7):
        letter = "A" if cursor[place] != "A" else "B"
        forged = cursor[:place] + letter + cursor[place + 1 :]
        response = api.get("", params={"cursor": forged})
        assert_problem(response, 400, "invalid-cursor")


def test_a_cursor_is_good_at_another_process(api: Api, celery_app: Celery, ids: dict[str, list[str]]) -> None:
    cursor = api.get("", params={"limit": 2}).json()["next_cursor"]
    other = make_celery(celery_app.conf.broker_url)
    with serving(setup(other), job_router(other)) as twin:
        here, there = (one.get(f"?cursor={quote(cursor)}") for one in (api, twin))
        assert listed(here) == listed(there)
