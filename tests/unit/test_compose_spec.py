"""What a deployment may be called and made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aijobs.compose import DeploymentSpec, ServiceName
from aijobs.compose.load import load
from aijobs.errors import ConfigurationError

USUAL: dict[str, Any] = {"app": "shop.worker:celery_app", "api": "shop.main:app", "project": "shop", "root": Path()}


def spec(**options: Any) -> DeploymentSpec:
    return DeploymentSpec.of(**{**USUAL, **options})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"app": "shop.worker"}, "app takes a module and a name in it"),
        ({"app": "shop/worker.py:app"}, "app takes"),
        ({"app": "shop.worker:app; rm -rf /"}, "app takes"),
        ({"app": "shop.worker:app\n"}, "app takes"),
        ({"app": "shöp.worker:app"}, "app takes"),
        ({"api": "--reload"}, "api takes"),
        ({"project": "Shop"}, "project takes 1 to 40 lower-case letters"),
        ({"project": "../shop"}, "project takes"),
        ({"project": "shop: {}"}, "project takes"),
        ({"project": "a" * 41}, "project takes"),
        ({"python": "2.7"}, "python is wrong: Input should be '3.11'"),
        ({"base": "python:3.13 AS x"}, "base takes the name of an image"),
        ({"base": "python\nRUN true"}, "base takes"),
        ({"base": "a" * 300}, "base is wrong"),
        ({"installer": "conda"}, "installer is wrong"),
        ({"system_packages": "libpq5 curl"}, "system_packages.0 takes the name of a package of Debian or Ubuntu"),
        ({"system_packages": ["libpq5;id"]}, "system_packages.0 takes"),
        ({"system_packages": "libpq5,libc6-"}, "system_packages.1 takes"),
        ({"system_packages": "--purge"}, "system_packages.0 takes"),
        ({"workers": 0}, "workers is wrong"),
        ({"concurrency": "two"}, "concurrency is wrong"),
        ({"port": 70_000}, "port is wrong"),
        ({"services": "rabbitmq"}, "services has no service 'rabbitmq'; there are beat, redis"),
        ({"services": 5}, "services is wrong"),
        ({"services": "postgress"}, "did you mean postgres"),
        ({"services": ["redis", "valkey"]}, "redis and valkey stand for the same thing"),
        ({"services": "postgres,pgvector"}, "name one of them"),
        ({"services": "flower", "port": 5555}, "port 5555 is for the API and for flower"),
        ({"services": "grafana", "ports": {"grafana": 9090}}, "port 9090 is for"),
        ({"services": "flower", "ports": {"redis": 1}}, "ports has redis, which has no port"),
        ({"services": "locust", "api": None}, "locust has nothing to load without an API"),
        ({"queues": {"GPU": {}}}, r"queues.GPU.* takes 1 to 40"),
        ({"queues": {"gpu": {"queues": "a b"}}}, "queues.gpu.queues.0 takes 1 to 63 letters"),
        ({"queues": {"gpu": {"gpu": True}}}, "need gpu = true for the deployment as well"),
        ({"queues": {"gpu": {"memory": "4 gigs"}}}, "queues.gpu.memory takes a whole number"),
        ({"queues": {"a": {"queues": "x"}, "b": {"queues": "x"}}}, "the queue x belongs to the workers a and b"),
        ({"makefile": "../Makefile"}, "makefile takes"),
        ({"makefile": "a/b"}, "makefile takes"),
        ({"makefile": "Dockerfile"}, "makefile is Dockerfile, where something else is written"),
        ({"makefile": "deploy"}, "makefile is deploy, where"),
        ({"colour": "red"}, "colour is not an option of aijobs compose"),
    ],
)
def test_what_is_unsafe_or_unknown_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        spec(**options)


@given(st.text(max_size=30))
def test_no_text_gets_into_files_that_means_something_there(text: str) -> None:
    options: dict[str, Any] = dict.fromkeys(("app", "api", "project", "base", "makefile"), text)
    for name, value in {**options, "system_packages": [text]}.items():
        try:
            spec(**{name: value})
        except ConfigurationError:
            continue
        assert text.isascii()
        assert not set(text) & set(" \t\r\n\"'\\${}[]#&*!|>%`;()<>")


@pytest.mark.parametrize(
    "image",
    [
        "python:3.13-slim",
        "nvidia/cuda:12.6.3-cudnn-runtime-ubuntu24.04",
        "registry.example.com:5000/team/base:1.2",
        f"ghcr.io/team/base@sha256:{'a' * 64}",
    ],
)
def test_images_of_all_kinds(image: str) -> None:
    assert spec(base=image).base == image


def test_grafana_brings_prometheus_and_redis_is_the_broker() -> None:
    plain = spec(services="grafana, flower", ports={"grafana": 3001})
    assert plain.has(ServiceName.PROMETHEUS)
    assert plain.broker is ServiceName.REDIS
    assert plain.dashboards == {"flower": 5555, "grafana": 3001, "prometheus": 9090}
    assert spec(services=["valkey"]).broker is ServiceName.VALKEY


PYPROJECT = """
[project]
name = "My.Shop 2"

[tool.aijobs.compose]
app = "shop.worker:celery_app"
with = ["valkey", "postgres"]
api-processes = 4
skip = ["Dockerfile"]

[tool.aijobs.compose.queues.heavy]
queues = ["heavy", "slow"]
workers = 1
memory = "4G"
"""


def test_options_come_from_pyproject_and_the_command_goes_first(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    read = load(tmp_path, {"api": "shop.main:app", "services": "redis", "workers": None})
    assert (read.app, read.api, read.project, read.api_processes) == (USUAL["app"], USUAL["api"], "my-shop", 4)
    assert read.services == {ServiceName.REDIS}
    assert read.skip == {"Dockerfile"}
    assert read.queues["heavy"].queues == ("heavy", "slow")
    assert read.root == tmp_path.resolve()


def test_without_a_name_the_folder_gives_it(tmp_path: Path) -> None:
    (tmp_path / "42").mkdir()
    assert load(tmp_path / "42", {"app": USUAL["app"]}).project == "app"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Name the Celery app"),
        ("[tool.aijobs]\ncompose = 1", "must be a table"),
        ("[tool.aijobs.compose]\nroot = '/'", "root, which is no option"),
        ("[tool.aijobs.compose\n", "cannot be read"),
        ("[tool.aijobs.compose]\napp = 'a:b'\nwrkers = 3", "wrkers is not an option"),
    ],
)
def test_what_is_wrong_in_pyproject_is_said(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=says):
        load(tmp_path, {})


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="There is no folder"):
        load(tmp_path / "elsewhere", {"app": USUAL["app"]})
