"""One job: its JSON, its entity tag, its result, its end."""

from __future__ import annotations

import uuid
from datetime import datetime

import pytest

from .conftest import Api, assert_problem

KEYS = {
    "job_id", "task", "batch_id", "metadata", "rev", "status", "progress", "progress_detail", "queue_position",
    "attempt", "max_attempts", "result", "error", "created_at", "scheduled_at", "started_at", "completed_at",
    "cancel_requested_at", "expires_at", "metrics", "urls",
}  # fmt: skip


def test_a_queued_job_shows_every_key(api: Api) -> None:
    job_id = api.queue()
    response = api.get(f"/{job_id}")
    job = response.json()
    assert response.status_code == 200
    assert job.keys() == KEYS
    assert (job["job_id"], job["task"], job["status"]) == (job_id, "contract.embed", "queued")
    assert job["queue_position"] >= 1
    assert job["attempt"] == 0
    assert job["metrics"] == {"queue_seconds": None, "run_seconds": None}
    assert job["urls"] == {
        "self": f"/jobs/{job_id}",
        "events": f"/jobs/{job_id}/events",
        "output": f"/jobs/{job_id}/output",
        "result": f"/jobs/{job_id}/result",
        "cancel": f"/jobs/{job_id}/cancel",
    }
    assert 1 <= int(response.headers["retry-after"]) <= 30


def test_times_are_utc_with_milliseconds(api: Api) -> None:
    created = api.get(f"/{api.queue()}").json()["created_at"]
    assert created.endswith("Z")
    assert len(created) == len("2025-01-01T00:00:00.000Z")
    assert datetime.fromisoformat(created).tzinfo is not None


def test_a_job_through_its_life(api: Api) -> None:
    claim = api.run()
    api.report(claim, 0.4, current=4, total=10, unit="texts", message="half way")
    running = api.get(f"/{claim.job_id}").json()
    assert (running["status"], running["progress"], running["attempt"]) == ("running", 0.4, 1)
    assert running["progress_detail"] == {
        "current": 4, "total": 10, "unit": "texts", "step": None, "message": "half way", "rate": None,
        "eta_seconds": None,
    }  # fmt: skip
    assert running["queue_position"] is None
    api.succeed(claim, {"texts": 1})
    done = api.get(f"/{claim.job_id}")
    assert (done.json()["status"], done.json()["progress"]) == ("success", 1.0)
    assert done.json()["result"] == {"texts": 1}
    assert done.json()["metrics"]["run_seconds"] >= 0
    assert "retry-after" not in done.headers
    assert done.json()["rev"] > running["rev"]


def test_a_failed_job_tells_why_and_hides_its_traceback(api: Api) -> None:
    claim = api.run()
    api.fail(claim, "ValueError: no such file")
    response = api.get(f"/{claim.job_id}")
    assert response.json()["status"] == "failed"
    assert response.json()["error"] == {
        "code": "exception", "message": "ValueError: no such file", "retryable": True, "attempt": 1,
    }  # fmt: skip
    assert "Traceback" not in response.text
    assert "test@host" not in response.text


def test_the_entity_tag_saves_the_body_until_something_changes(api: Api) -> None:
    claim = api.run()
    first = api.get(f"/{claim.job_id}")
    tag = first.headers["etag"]
    assert tag.startswith('"')
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = api.get(f"/{claim.job_id}", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    api.report(claim, 0.5)
    changed = api.get(f"/{claim.job_id}", headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json()["progress"]) == (200, 0.5)
    assert api.get(f"/{claim.job_id}", headers={"If-None-Match": '"other"'}).status_code == 200


def test_head_is_get_without_a_body(api: Api) -> None:
    job_id = api.queue()
    for path in (f"/{job_id}", "", "/", "/stats", "/health"):
        head, get = api.client.head(f"/jobs{path}"), api.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == get.headers["content-type"]
        assert head.headers.get("etag") == get.headers.get("etag")


def test_progress_shortens_the_polling_hint(api: Api) -> None:
    claim = api.run()
    api.report(claim, 0.99)
    assert api.get(f"/{claim.job_id}").headers["retry-after"] == "1"


def test_a_delayed_job_shows_when_it_is_due(api: Api) -> None:
    sent = api.runtime.app.tasks["contract.plain"].apply_async((1,), countdown=3_600)
    response = api.get(f"/{sent.id}")
    due = datetime.fromisoformat(response.json()["scheduled_at"])
    created = datetime.fromisoformat(response.json()["created_at"])
    assert 3_500 < (due - created).total_seconds() < 3_700
    assert response.headers["retry-after"] == "30"


@pytest.mark.parametrize("result", [None, 0, "", [], {"a": ["ü", 1.5, None]}, "x" * 100_000])
def test_the_bare_result(api: Api, result: object) -> None:
    claim = api.run()
    api.succeed(claim, result)
    response = api.get(f"/{claim.job_id}/result")
    assert (response.status_code, response.json()) == (200, result)
    assert response.headers["content-type"] == "application/json"
    known = api.get(f"/{claim.job_id}/result", headers={"If-None-Match": response.headers["etag"]})
    assert known.status_code == 304


def test_a_large_result_is_not_inline(api: Api) -> None:
    claim = api.run()
    api.succeed(claim, "x" * 100_000)
    job = api.get(f"/{claim.job_id}").json()
    assert job["result"] is None
    assert api.client.get(job["urls"]["result"]).json() == "x" * 100_000


def test_no_result_yet(api: Api) -> None:
    claim = api.run()
    response = api.get(f"/{claim.job_id}/result")
    assert assert_problem(response, 409, "job-not-finished")["job_status"] == "running"
    assert int(response.headers["retry-after"]) >= 1


def test_no_result_ever(api: Api) -> None:
    claim = api.run()
    api.fail(claim)
    members = assert_problem(api.get(f"/{claim.job_id}/result"), 409, "job-without-result")
    assert (members["job_status"], members["error"]["code"]) == ("failed", "exception")


def test_a_result_that_has_expired(api: Api) -> None:
    claim = api.run()
    api.succeed(claim, "x" * 100_000)
    assert api.command("DEL", f"aijobs:job:{claim.job_id}:result") == 1
    assert_problem(api.get(f"/{claim.job_id}/result"), 410, "result-expired")


@pytest.mark.parametrize(("method", "path"), [("DELETE", ""), ("POST", "/cancel")])
class TestCancel:
    def test_queued(self, api: Api, method: str, path: str) -> None:
        job_id = api.queue()
        for _ in range(2):
            response = api.client.request(method, f"/jobs/{job_id}{path}")
            assert (response.status_code, response.json()["status"]) == (200, "revoked")
            assert response.json()["error"]["code"] == "cancelled"
            assert response.json()["urls"]["self"] == f"/jobs/{job_id}"

    def test_running(self, api: Api, method: str, path: str) -> None:
        claim = api.run()
        response = api.client.request(method, f"/jobs/{claim.job_id}{path}")
        assert (response.status_code, response.json()["status"]) == (202, "running")
        assert response.json()["cancel_requested_at"] is not None

    def test_finished(self, api: Api, method: str, path: str) -> None:
        claim = api.run()
        api.succeed(claim)
        assert_problem(api.client.request(method, f"/jobs/{claim.job_id}{path}"), 409, "job-finished")

    def test_unknown(self, api: Api, method: str, path: str) -> None:
        assert_problem(api.client.request(method, f"/jobs/{uuid.uuid4()}{path}"), 404, "job-not-found")

    def test_with_what_it_submitted(self, api: Api, method: str, path: str) -> None:
        claim = api.run()
        children = [api.child(claim.job_id), api.child(claim.job_id)]
        grandchild = api.child(children[0])
        other = api.queue()
        api.succeed(claim)
        assert_problem(api.client.request(method, f"/jobs/{claim.job_id}{path}"), 409, "job-finished")
        assert {api.job(child).status for child in children} == {"queued"}
        response = api.client.request(method, f"/jobs/{claim.job_id}{path}?children=true")
        assert (response.status_code, response.json()["status"]) == (200, "success")
        assert {api.job(child).status for child in (*children, grandchild)} == {"revoked"}
        assert api.job(other).status == "queued"
        assert api.job(api.child(claim.job_id)).status == "revoked"

    def test_without_sense(self, api: Api, method: str, path: str) -> None:
        response = api.client.request(method, f"/jobs/{api.queue()}{path}?children=perhaps")
        assert_problem(response, 422, "invalid-request")


def test_an_unknown_id_is_never_pending(api: Api) -> None:
    unknown = uuid.uuid4()
    for path in (f"/{unknown}", f"/{unknown}/result", f"/{unknown}/events"):
        members = assert_problem(api.get(path), 404, "job-not-found")
        assert str(unknown) not in str(members)


def test_what_the_api_has_a_path_for_is_no_job(api: Api) -> None:
    assert api.get("/stats").json().keys() >= {"statuses", "workers"}
    refused = api.client.delete("/jobs/stats")
    assert_problem(refused, 405, "method-not-allowed")
    assert refused.headers["allow"] == "GET, HEAD"
    assert_problem(api.get("/events"), 404, "job-not-found")


def test_a_job_sent_without_the_api_is_shown_too(api: Api) -> None:
    sent = api.runtime.app.tasks["contract.plain"].apply_async((1,))
    job = api.get(f"/{sent.id}").json()
    assert (job["task"], job["status"]) == ("contract.plain", "queued")
