"""From a spec and an app to services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aijobs import Settings
from aijobs.compose import DeploymentSpec, document, envfile
from aijobs.compose.apps import PROCESS_MEMORY
from aijobs.compose.inspection import Facts, Queue
from aijobs.compose.manifests import pod
from aijobs.compose.model import Service
from aijobs.compose.services import Deployment, deployment
from aijobs.errors import ConfigurationError
from aijobs.worker.stopping import EXIT_SECONDS, KILL_SECONDS

#: Settings that compose.yaml decides.
DECIDED = {"store_url", "files_url", "health_folder"}

FAST = Queue("celery", ("a.fast",), 10.0)
HEAVY = Queue("Heavy.Jobs", ("a.heavy",), 900.0)
GPU = Queue("gpu", ("a.gpu",), None)


def planned(
    *queues: Queue, soft: float = 5.0, schedule: bool = False, scheduler: str = "", **options: Any
) -> Deployment:
    spec = DeploymentSpec.of(**{"app": "a.b:c", "api": "a.d:e", "project": "shop", "root": Path(), **options})
    return deployment(spec, Facts(queues or (FAST,), schedule, scheduler, soft))


def service(plan: Deployment, name: str) -> Service:
    return next(one for one in plan.services if one.name == name)


def commands(plan: Deployment) -> dict[str, str]:
    return {one.name: one.command[-1] for one in plan.workers}


def test_each_queue_of_the_app_has_workers() -> None:
    assert commands(planned(FAST, HEAVY, GPU)) == {
        "worker": "--queues=celery",
        "worker-heavy-jobs": "--queues=Heavy.Jobs",
        "worker-gpu": "--queues=gpu",
    }


def test_classes_of_workers_as_the_spec_has_them() -> None:
    queues = {"worker": {"queues": ["celery", "Heavy.Jobs"]}, "gpu": {"workers": 1, "concurrency": 1, "memory": "8G"}}
    plan = planned(FAST, HEAVY, GPU, queues=queues, workers=5)
    assert commands(plan) == {"worker": "--queues=celery,Heavy.Jobs", "worker-gpu": "--queues=gpu"}
    gpu = service(plan, "worker-gpu")
    assert (gpu.replicas, gpu.concurrency, gpu.memory) == (1, 1, 8192)
    assert service(plan, "worker").replicas == 5


def test_pools_of_workers() -> None:
    queues = {"worker": {"queues": ["celery"], "pool": "asyncio"}, "gpu": {"pool": "threads", "concurrency": 8}}
    plan = planned(FAST, GPU, queues=queues)
    many, threads = service(plan, "worker"), service(plan, "worker-gpu")
    assert {"--pool=asyncio", "--concurrency=100"} < set(many.command)
    assert {"--pool=threads", "--concurrency=8"} < set(threads.command)
    assert many.memory == threads.memory == 2 * PROCESS_MEMORY
    assert not any(word.startswith("--pool") for one in planned(FAST).workers for word in one.command)


@pytest.mark.parametrize(
    ("queues", "options", "says"),
    [
        ((FAST, HEAVY), {"queues": {"celery": {}}}, "No workers take jobs from the queue 'Heavy.Jobs'.*a.heavy"),
        ((FAST, Queue("a b")), {}, "The queue 'a b' of the app cannot be written"),
        ((FAST, Queue("a.b"), Queue("a-b")), {}, "two services named worker-a-b"),
    ],
)
def test_queues_that_cannot_be_served(queues: tuple[Queue, ...], options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        planned(*queues, **options)


def test_gpus_go_to_the_queue_of_that_name_or_to_all() -> None:
    assert [one.name for one in planned(FAST, GPU, gpu=True).workers if one.gpu] == ["worker-gpu"]
    assert [one.name for one in planned(FAST, HEAVY, gpu=True).workers if one.gpu] == ["worker", "worker-heavy-jobs"]
    assert not any(one.gpu for one in planned(FAST, GPU).workers)


def test_a_gpu_is_for_one_process_unless_more_are_asked_for() -> None:
    gpu = service(planned(FAST, GPU, gpu=True), "worker-gpu")
    assert (gpu.replicas, gpu.concurrency) == (1, 1)
    gpu = service(planned(FAST, GPU, gpu=True, workers=2, concurrency=4), "worker-gpu")
    assert (gpu.replicas, gpu.concurrency) == (2, 4)


@pytest.mark.parametrize(
    ("soft", "queues", "grace"),
    [(5.0, (FAST,), 15), (0.5, (FAST,), 11), (120.0, (GPU,), 130), (0.0, (FAST, HEAVY), 910), (0.0, (FAST, GPU), 3600)],
)
def test_workers_have_time_to_stop(soft: float, queues: tuple[Queue, ...], grace: int) -> None:
    assert planned(*queues, soft=soft).workers[0].grace == grace
    # What the worker itself takes once the time of its jobs is up.
    assert grace >= soft + KILL_SECONDS + EXIT_SECONDS


def test_the_scheduler_is_there_when_it_is_needed() -> None:
    assert "beat" not in [one.name for one in planned().services]
    assert "beat" in [one.name for one in planned(services="beat").services]
    own = service(planned(schedule=True), "beat")
    assert (own.replicas, own.command[-1]) == (1, "--schedule=/data/beat/celerybeat-schedule")
    locked = service(planned(schedule=True, scheduler="redbeat.RedBeatScheduler"), "beat")
    assert (locked.replicas, locked.volumes) == (2, ())


def test_an_api_is_optional() -> None:
    plan = planned(api=None)
    assert [one.name for one in plan.services] == ["worker", "redis"]


def test_only_the_app_gets_out_and_nothing_is_published_to_others() -> None:
    plan = planned(services="pgvector,chroma,qdrant,flower,locust,grafana,beat")
    closed = {one.name for one in plan.services if not one.outside}
    assert closed == {"redis", "postgres", "chroma", "qdrant", "redis-exporter"}
    published = {one.name for one in plan.services if one.published and one.profile is None}
    assert published == {"api"}


def test_every_setting_is_explained() -> None:
    assert Settings.model_fields.keys() <= envfile.MEANINGS.keys() | DECIDED
    text = envfile.render(planned())
    assert "#AIJOBS_LEASE_SECONDS=30.0" in text
    assert "AIJOBS_STORE_URL" not in text


def test_files_may_be_in_a_bucket() -> None:
    plan = planned()
    assert 'AIJOBS_FILES_URL: "${AIJOBS_FILES_URL:-/data/files}"' in document.render(plan)
    assert "#AIJOBS_FILES_URL=/data/files" in envfile.render(plan)
    template: Any = pod(service(plan, "api"), "shop", plan.environment)
    assert {"name": "AIJOBS_FILES_URL", "value": "/data/files"} in template["spec"]["containers"][0]["env"]


def test_secrets_are_those_that_are_asked_for() -> None:
    assert list(envfile.secrets(planned())) == ["REDIS_PASSWORD"]
    assert "QDRANT_PASSWORD" in envfile.secrets(planned(services="qdrant"))
