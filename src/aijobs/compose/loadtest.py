"""The load test that Locust runs against the API."""

from __future__ import annotations

import json
from string import Template

from aijobs._vitals import HEALTH_PATH
from aijobs.compose.services import Deployment

_TEXT = '''\
"""Submits jobs of one task and follows each to its end.

The task is LOAD_TASK, by its name in the API, and LOAD_INPUT is what is submitted, as JSON; both are set in .env. Jobs
are real ones: mind what they cost.
"""

import json
import os
import time

from locust import HttpUser, between, task

#: Where the API has its job routes.
JOBS = $jobs
TASK = os.environ["LOAD_TASK"]
INPUT = json.loads(os.environ.get("LOAD_INPUT") or "{}")
#: How long a job may take before it counts as a failure, seconds.
PATIENCE = 120.0


class Client(HttpUser):
    """Somebody who submits a job and waits for it."""

    wait_time = between(0.5, 2.0)

    @task
    def run_a_job(self):
        """Submits a job and asks for it, as often as the API says, until it is over."""
        with self.client.post(f"{JOBS}/{TASK}", json=INPUT, name="submit", catch_response=True) as submitted:
            if submitted.status_code != 202:
                submitted.failure(f"{submitted.status_code}: {submitted.text[:200]}")
                return
        job, deadline = submitted.json(), time.monotonic() + PATIENCE
        answer = submitted
        while job["status"] in ("queued", "running") and time.monotonic() < deadline:
            time.sleep(float(answer.headers.get("Retry-After", 1)))
            answer = self.client.get(f"{JOBS}/{job['job_id']}", name="follow")
            if not answer.ok:
                return
            job = answer.json()
        if job["status"] != "success":
            self.environment.events.request.fire(
                request_type="JOB",
                name=TASK,
                response_time=0,
                response_length=0,
                exception=RuntimeError(f"the job is {job['status']}"),
            )
'''


def render(plan: Deployment) -> str:
    """The file's text, without its header."""
    jobs = (plan.facts.health_path or HEALTH_PATH).rpartition("/")[0]
    return Template(_TEXT).substitute(jobs=json.dumps(jobs))
