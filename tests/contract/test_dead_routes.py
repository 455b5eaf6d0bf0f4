"""Dead letters over HTTP: for admins, found by filters, run again and purged a part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from celery import Celery
from fastapi import FastAPI, Header

from aijobs import setup
from aijobs._deadsearch import PAGE_SIZE
from aijobs.http import deadletters, job_router
from aijobs.job import ErrorCode, JobStatus
from aijobs.runtime import Runtime
from aijobs.store.values import Claim, Failure, NewJob

from .conftest import Api, assert_problem, make_celery, serving

ROOT = {"X-User": "root"}
ANN = {"X-User": "ann"}


def caller(x_user: str = Header()) -> str:
    return x_user


def is_root(x_user: str = Header()) -> bool:
    return x_user == "root"


@pytest.fixture(scope="module")
def api(celery_app: Celery, runtime: Runtime) -> Iterator[Api]:
    """The API as an admin has it, unless a request says otherwise."""
    with serving(runtime, job_router(celery_app, owner=caller, admin=is_root)) as api:
        api.client.headers.update(ROOT)
        yield api


@pytest.fixture
def letters(api: Api) -> Iterator[list[str]]:
    """Five dead letters of ann and one of bob, oldest first; no others, and none afterwards."""
    ids = [fail(api, f"number {number}", headers=ANN) for number in range(5)]
    ids.append(fail(api, "other", ErrorCode.TIME_LIMIT, task="nightly", body={}, headers={"X-User": "bob"}))
    yield ids
    assert api.client.delete("/jobs/dead?all=true").status_code == 200


def fail(api: Api, message: str, code: ErrorCode = ErrorCode.EXCEPTION, **options: Any) -> str:
    claim = api.run(**options)
    store = api.runtime.store
    assert store.run(store.finish(claim, JobStatus.FAILED, failure=Failure(code, message, "Traceback …"))).accepted
    return claim.job_id


def listed(api: Api, **query: Any) -> list[str]:
    response = api.get("/dead", params=query)
    assert response.status_code == 200, response.text
    return [job["job_id"] for job in response.json()["jobs"]]


def retried(api: Api, **body: Any) -> dict[str, Any]:
    response = api.client.post("/jobs/dead/retry", json=body)
    assert response.status_code == 200, response.text
    report: dict[str, Any] = response.json()
    return report


def purged(api: Api, **query: Any) -> dict[str, Any]:
    response = api.client.delete("/jobs/dead", params=query)
    assert response.status_code == 200, response.text
    report: dict[str, Any] = response.json()
    return report


def test_newest_first_with_what_admins_see(api: Api, letters: list[str]) -> None:
    queued, cancelled = api.queue(), api.queue()
    api.client.delete(f"/jobs/{cancelled}")
    assert listed(api) == letters[::-1]
    first = api.get("/dead").json()["jobs"][0]
    assert (first["status"], first["owner"], first["error"]["code"]) == ("failed", "bob", "time_limit")
    assert "traceback" not in first
    assert first["urls"]["self"] == f"/jobs/{letters[-1]}"
    head = api.client.head("/jobs/dead")
    assert (head.status_code, head.content) == (200, b"")
    assert api.job(queued).status == "queued"


def test_filters(api: Api, letters: list[str]) -> None:
    *of_ann, of_bob = letters
    for query in ({"task": "nightly"}, {"task": "contract.nightly"}, {"code": "time_limit"}, {"owner": "bob"}):
        assert listed(api, **query) == [of_bob], query
    assert listed(api, owner="ann", code="exception", task="embed") == of_ann[::-1]
    assert listed(api, owner="ann", code="time_limit") == []
    middle = api.get(f"/{of_ann[2]}").json()
    assert listed(api, created_after=middle["created_at"]) == letters[:1:-1]
    assert set(listed(api, failed_after=middle["completed_at"])) >= set(letters[3:])
    assert set(listed(api, failed_before=middle["completed_at"])) == set(letters[:2])
    assert listed(api, created_before="2000-01-01") == listed(api, failed_after="2999-01-01T00:00:00") == []
    assert listed(api, task="%00\n*") == listed(api, owner="*") == []


@pytest.mark.parametrize("limit", [1, 2, 4, 6])
def test_pages(api: Api, letters: list[str], limit: int) -> None:
    found, cursor = [], None
    while True:
        page = api.get("/dead", params={"limit": limit, **({"cursor": cursor} if cursor else {})}).json()
        assert len(page["jobs"]) <= limit
        found += [job["job_id"] for job in page["jobs"]]
        cursor = page["next_cursor"]
        assert page["has_more"] == (cursor is not None)
        if cursor is None:
            break
    assert found == letters[::-1]


def test_a_page_of_those_that_only_we_can_tell(api: Api, letters: list[str]) -> None:
    first = api.get("/dead?limit=2&code=exception").json()
    second = api.get(f"/dead?limit=2&code=exception&cursor={first['next_cursor']}").json()
    assert [job["job_id"] for job in first["jobs"] + second["jobs"]] == letters[4:0:-1]


def test_a_cursor_is_good_for_its_filters_only(api: Api, letters: list[str]) -> None:
    cursor = api.get("/dead?limit=1&code=exception").json()["next_cursor"]
    assert_problem(api.get(f"/dead?limit=1&cursor={cursor}"), 400, "invalid-cursor")
    assert_problem(api.get(f"/dead?code=time_limit&cursor={cursor}"), 400, "invalid-cursor")
    assert_problem(api.get(f"?status=failed&cursor={cursor}"), 400, "invalid-cursor")
    assert_problem(api.client.delete(f"/jobs/dead?all=true&cursor={cursor}"), 400, "invalid-cursor")
    assert_problem(api.client.post("/jobs/dead/retry", json={"all": True, "cursor": cursor}), 400, "invalid-cursor")
    assert len(listed(api)) == 6


def test_run_again_by_filter(api: Api, letters: list[str]) -> None:
    counted = retried(api, task="embed", dry_run=True)
    expected = {"matched": 5, "replayed": 5, "refused": {}, "has_more": False, "next_cursor": None}
    assert counted == expected
    assert len(listed(api)) == 6
    assert retried(api, task="embed") == expected
    assert listed(api) == letters[-1:]
    assert {api.job(job_id).status for job_id in letters[:-1]} == {"queued"}
    assert retried(api, task="embed") == {**expected, "matched": 0, "replayed": 0}


def test_run_again_a_part_at_a_time(api: Api, letters: list[str]) -> None:
    first = retried(api, owner="ann", limit=2)
    assert (first["replayed"], first["has_more"]) == (2, True)
    assert [api.job(job_id).status for job_id in letters[:5]] == ["failed"] * 3 + ["queued"] * 2
    for job_id in letters[3:5]:
        api.fail(api.start(job_id))
    rest = retried(api, owner="ann", cursor=first["next_cursor"])
    assert (rest["replayed"], rest["has_more"]) == (3, False)
    # What failed again meanwhile is not run a third time.
    assert [api.job(job_id).status for job_id in letters[:5]] == ["queued"] * 3 + ["failed"] * 2


def test_a_call_ends_in_time_and_says_where(api: Api, letters: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    more = [fail(api, "more", headers=ANN) for _ in range(PAGE_SIZE)]
    for limit in ("WORK_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(deadletters, limit, 0.0)
    page = api.get("/dead?limit=100").json()
    assert ([job["job_id"] for job in page["jobs"]], page["has_more"]) == (more[::-1], True)
    rest = api.get("/dead", params={"limit": 100, "cursor": page["next_cursor"]}).json()
    assert ([job["job_id"] for job in rest["jobs"]], rest["has_more"]) == (letters[::-1], False)
    first = retried(api, all=True)
    assert (first["replayed"], first["has_more"]) == (PAGE_SIZE, True)
    second = purged(api, all=True)
    assert (second["purged"], second["has_more"]) == (len(letters), False)


def test_what_cannot_be_run_again_is_named(api: Api, letters: list[str]) -> None:
    new = NewJob("without-arguments", "contract.plain")
    store = api.runtime.store
    store.run(store.create(new))
    api.fail(Claim(new.id))
    report = retried(api, task="contract.plain")
    assert (report["matched"], report["replayed"]) == (1, 0)
    assert "arguments" in report["refused"][new.id]


def test_purged_for_good(api: Api, letters: list[str]) -> None:
    assert purged(api, owner="ann", limit=3, dry_run=True)["purged"] == 3
    first = purged(api, owner="ann", limit=3)
    assert (first["purged"], first["has_more"]) == (3, True)
    assert purged(api, owner="ann", cursor=first["next_cursor"]) == {
        "purged": 2, "has_more": False, "next_cursor": None,
    }  # fmt: skip
    assert listed(api) == letters[-1:]
    for job_id in letters[:5]:
        assert_problem(api.get(f"/{job_id}"), 404, "job-not-found")


@pytest.mark.parametrize("only_all", [{}, {"limit": 1}])
def test_all_must_be_said(api: Api, letters: list[str], only_all: dict[str, Any]) -> None:
    assert_problem(api.client.delete("/jobs/dead", params=only_all), 422, "invalid-request")
    assert_problem(api.client.post("/jobs/dead/retry", json=only_all), 422, "invalid-request")
    assert len(listed(api)) == 6
    assert purged(api, dry_run=True)["purged"] == 6
    assert retried(api, all=True)["replayed"] == 6


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=501", "limit=x", "code=lost", "code=", "owner=", "failed_after=yesterday", "dry_run=perhaps",
        "created_before=9999999999999999999999",
    ],
)  # fmt: skip
def test_wrong_filters(api: Api, letters: list[str], query: str) -> None:
    name = query.partition("=")[0]
    response = api.client.delete(f"/jobs/dead?all=true&{query}")
    assert assert_problem(response, 422, "invalid-request")["errors"][0]["parameter"] == name
    if name != "dry_run":
        assert_problem(api.get(f"/dead?{query}"), 422, "invalid-request")
    assert len(listed(api)) == 6


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"null", 422),
        (b"[]", 422),
        (b"{", 400),
        (b'{"all": NaN}', 400),
        (b'{"all": true, "ownr": "ann"}', 422),
        (b'{"all": true, "limit": 501}', 422),
        (b'{"all": true, "cursor": ""}', 400),
        (b'{"all": true, "cursor": "AAAA"}', 400),
        (b'{"owner": "\\ud800"}', 400),
        (b'{"owner": ""}', 422),
        (b"[" * 100_000, 400),
    ],
)
def test_wrong_bodies(api: Api, letters: list[str], body: bytes, status: int) -> None:
    response = api.client.post("/jobs/dead/retry", content=body, headers={"Content-Type": "application/json"})
    assert_problem(response, status)
    assert len(listed(api)) == 6


def requests_for(api: Api, **options: Any) -> list[httpx.Response]:
    ask = api.client.request
    return [
        ask("GET", "/jobs/dead", **options),
        ask("HEAD", "/jobs/dead", **options),
        ask("GET", "/jobs/dead?limit=x", **options),
        ask("DELETE", "/jobs/dead?all=true", **options),
        ask("POST", "/jobs/dead/retry", json={"all": True}, **options),
        ask("POST", "/jobs/dead/retry", json={"al": 1}, **options),
    ]


def test_others_are_refused(api: Api, letters: list[str]) -> None:
    for response in requests_for(api, headers=ANN):
        assert response.status_code == 403
    assert_problem(api.get("/dead", headers=ANN), 403, "forbidden")
    assert len(listed(api)) == 6


def test_without_admins_there_are_no_such_routes(celery_app: Celery, runtime: Runtime) -> None:
    with serving(runtime, job_router(celery_app)) as api:
        for response in requests_for(api):
            assert response.status_code == 404
        unknown = api.get("/no-such-job")
        assert api.get("/dead").content == unknown.content
    app = FastAPI()
    app.include_router(job_router(celery_app))
    assert not [path for path in app.openapi()["paths"] if "dead" in path]


def test_nothing_is_read_before_it_is_known_who_asks() -> None:
    app = make_celery("redis://127.0.0.1:1/0")
    with serving(setup(app), job_router(app, owner=caller, admin=is_root)) as api:
        for response in requests_for(api, headers=ANN):
            assert response.status_code == 403
        for response in requests_for(api, headers=ROOT):
            assert response.status_code in (422, 503)
        assert_problem(api.get("/dead", headers=ROOT), 503, "store-unavailable")
