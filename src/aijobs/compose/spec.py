"""What a deployment is to be: a few typed, checked values that everything else is made from."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from aijobs.errors import ConfigurationError

#: The user of the image, and its number, which Kubernetes and volumes go by.
USER_NAME, USER_ID = "appuser", 10001
#: Where the image has the app.
APP_FOLDER = "/app"
#: Folders for volumes. The image has them, owned by its user, so that a new volume is that user's as well.
FILES_FOLDER, BEAT_FOLDER, CACHE_FOLDER = "/data/files", "/data/beat", "/data/cache"
#: Where workers and scheduler leave signs of life; in memory, and of each container its own.
HEALTH_FOLDER = "/tmp/health"
Python: TypeAlias = Literal["3.11", "3.12", "3.13", "3.14"]


class Installer(StrEnum):
    """How the project says what it needs."""

    #: By what the project's folder holds.
    AUTO = "auto"
    #: `requirements.txt`.
    REQUIREMENTS = "requirements"
    #: `pyproject.toml`, with pip.
    PYPROJECT = "pyproject"
    #: `uv.lock`, with uv.
    UV = "uv"


class ServiceName(StrEnum):
    """What a deployment can have beside API, workers and their Redis."""

    #: The scheduler of periodic tasks; also without being named when the app has a schedule.
    BEAT = "beat"
    #: Redis as broker and store; what there is unless Valkey is named.
    REDIS = "redis"
    #: Valkey as broker and store.
    VALKEY = "valkey"
    POSTGRES = "postgres"
    #: Postgres with the extension of this name.
    PGVECTOR = "pgvector"
    CHROMA = "chroma"
    QDRANT = "qdrant"
    #: Celery's monitor.
    FLOWER = "flower"
    #: Load tests.
    LOCUST = "locust"
    PROMETHEUS = "prometheus"
    #: Dashboards; brings Prometheus with it.
    GRAFANA = "grafana"


#: What has a page for people, with the port of this machine where it is.
DASHBOARD_PORTS = {
    ServiceName.FLOWER: 5555,
    ServiceName.GRAFANA: 3000,
    ServiceName.LOCUST: 8089,
    ServiceName.PROMETHEUS: 9090,
}

#: No two of a group, since each would be the same thing to the app.
_EITHER_OR = (
    frozenset({ServiceName.REDIS, ServiceName.VALKEY}),
    frozenset({ServiceName.POSTGRES, ServiceName.PGVECTOR}),
)

#: What else is written beside the Makefile; some file systems do not tell capital letters from small ones.
_BESIDE = frozenset({"compose.yaml", "deploy", "dockerfile"})

_TARGET = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*"
# What Docker calls a reference: a registry with a port, a path, a tag, a digest.
_IMAGE = (
    r"([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?/)?[a-z0-9]+([._/-][a-z0-9]+|__[a-z0-9]+)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)


def _text(pattern: str, wants: str) -> AfterValidator:
    """A check of a whole text; `$` would let a line end pass."""
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"takes {wants}")
        return value

    return AfterValidator(check)


Target = Annotated[str, _text(_TARGET, "a module and a name in it, as in shop.worker:celery_app")]
Name = Annotated[
    str, _text(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", "1 to 40 lower-case letters, digits and hyphens, a letter first")
]
QueueName = Annotated[
    str, _text(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,62})", "1 to 63 letters, digits and the characters _ . -")
]
Image = Annotated[
    str,
    StringConstraints(max_length=255),
    _text(_IMAGE, "the name of an image, as in python:3.13-slim or registry.example.com:5000/base:1.2"),
]
Memory = Annotated[str, _text(r"[1-9][0-9]{0,5}[MG]", "a whole number of mebibytes or gibibytes, as in 512M or 4G")]
Makefile = Annotated[
    str, _text(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", "the name of a file in the project's folder, as in deploy.mk")
]
# apt-get takes a hyphen at the end for a wish to remove something.
SystemPackage = Annotated[
    str,
    _text(
        r"[a-z0-9][a-z0-9+.-]{0,98}[a-z0-9+]",
        "the name of a package of Debian or Ubuntu, as in libpq5: lower-case letters, digits and the characters + . -",
    ),
]
Port = Annotated[int, Field(ge=1, le=65_535)]
Count = Annotated[int, Field(ge=1, le=1_000)]


def _split(value: object) -> object:
    return [one.strip() for one in value.split(",") if one.strip()] if isinstance(value, str) else value


def _known(value: object) -> object:
    """Service names, or an error that says which there are."""
    if not isinstance(value, Iterable):
        return value
    named = list(value)
    for one in named:
        if one not in list(ServiceName):
            close = difflib.get_close_matches(str(one), list(ServiceName), n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(ServiceName)}"
            raise ValueError(f"has no service {one!r}; {hint}")
    return named


class WorkerClass(BaseModel):
    """Workers of one kind: the same queues, and the same room to work in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: The queues that they take jobs from; by default the one that the class is named for.
    queues: Annotated[tuple[QueueName, ...], BeforeValidator(_split)] = ()
    #: Containers; by default as many as the deployment says.
    workers: Count | None = None
    #: Celery's pool.
    pool: Literal["prefork", "asyncio", "threads"] = "prefork"
    #: Jobs at a time in each; by default as many as the deployment says, or 100 in the asyncio pool.
    concurrency: Count | None = None
    #: How much memory each container may have; by default what its concurrency asks for.
    memory: Memory | None = None
    #: Whether each needs a GPU.
    gpu: bool = False


class DeploymentSpec(BaseModel):
    """A deployment.

    Use `DeploymentSpec.of` where values come from people: its errors say which value, and what it takes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: The Celery app.
    app: Target
    #: The ASGI app; None makes a deployment without an API.
    api: Target | None = None
    #: The project's folder, where the files go.
    root: Path
    #: Of containers, networks and volumes.
    project: Name
    #: The version of Python in the image.
    python: Python = "3.13"
    #: The image to build upon; None is the slim one of this Python, or CUDA's runtime for GPU workers.
    base: Image | None = None
    #: Whether workers need a GPU.
    gpu: bool = False
    installer: Installer = Installer.AUTO
    #: Packages of Debian or Ubuntu that the app needs when it runs, beside those that are found out.
    system_packages: Annotated[tuple[SystemPackage, ...], BeforeValidator(_split)] = ()
    #: Containers for each class of workers.
    workers: Count = 2
    #: Jobs at a time in each of them.
    concurrency: Count = 2
    #: Classes of workers by name; empty makes one for each queue that the app's tasks name.
    queues: Mapping[Name, WorkerClass] = Field(default_factory=dict)
    services: Annotated[frozenset[ServiceName], BeforeValidator(_known), BeforeValidator(_split)] = frozenset()
    #: Where this machine's port for the API is.
    port: Port = 8000
    #: The ports of dashboards, where they are not the usual ones.
    ports: Mapping[ServiceName, Port] = Field(default_factory=dict)
    #: Processes of the API.
    api_processes: Annotated[int, Field(ge=1, le=64)] = 2
    #: What the Makefile is called.
    makefile: Makefile = "Makefile"
    #: Files that are not written, since the team has its own.
    skip: Annotated[frozenset[str], BeforeValidator(_split)] = frozenset()
    #: Whether to write manifests for Kubernetes as well.
    kubernetes: bool = False

    @classmethod
    def of(cls, **values: Any) -> Self:
        """A spec of values that people wrote.

        Raises:
            ConfigurationError: a value is wrong; the message names each and says what it takes.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigurationError("; ".join(_explain(error))) from None

    @property
    def broker(self) -> ServiceName:
        """Redis or Valkey."""
        return ServiceName.VALKEY if ServiceName.VALKEY in self.services else ServiceName.REDIS

    @property
    def dashboards(self) -> dict[ServiceName, int]:
        """The services with a page for people, and the port of each."""
        return {name: self.ports.get(name, port) for name, port in DASHBOARD_PORTS.items() if self.has(name)}

    def has(self, name: ServiceName) -> bool:
        """Whether the deployment has a service that it names, or that one it names brings with it."""
        return name in self.services or (name is ServiceName.PROMETHEUS and ServiceName.GRAFANA in self.services)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for problem in (*self._clashes(), *self._gaps()):
            raise ValueError(problem)
        return self

    def _clashes(self) -> Iterable[str]:
        for group in _EITHER_OR:
            both = sorted(group & self.services)
            if len(both) > 1:
                yield f"{' and '.join(both)} stand for the same thing: name one of them"
        if self.makefile.lower() in _BESIDE:
            yield f"makefile is {self.makefile}, where something else is written: give it another name, as in deploy.mk"
        owners: dict[int, str] = {}
        for name, port in [("the API", self.port)] * (self.api is not None) + list(self.dashboards.items()):
            if port in owners:
                yield f"port {port} is for {owners[port]} and for {name}: give one of them another"
            owners[port] = name
        yield from self._shared_queues()

    def _shared_queues(self) -> Iterable[str]:
        owners: dict[str, str] = {}
        for name, kind in self.queues.items():
            for queue in kind.queues or (name,):
                if queue in owners:
                    yield f"the queue {queue} belongs to the workers {owners[queue]} and {name}: give it to one"
                owners[queue] = name

    def _gaps(self) -> Iterable[str]:
        if any(kind.gpu for kind in self.queues.values()) and not self.gpu:
            yield "queues with gpu = true need gpu = true for the deployment as well, since all run one image"
        if ServiceName.LOCUST in self.services and self.api is None:
            yield "locust has nothing to load without an API: name one with api"
        for name in self.ports:
            if name not in DASHBOARD_PORTS:
                yield f"ports has {name}, which has no port on this machine; {', '.join(DASHBOARD_PORTS)} have"


def _explain(error: ValidationError) -> Iterable[str]:
    for one in error.errors(include_input=False, include_url=False):
        where = ".".join(str(part) for part in one["loc"])
        yield f"{where} {_message(one)}" if where else _message(one)


def _message(one: Any) -> str:
    if one["type"] == "extra_forbidden":
        return "is not an option of aijobs compose"
    if one["type"] == "value_error":
        return str(one["ctx"]["error"])
    return f"is wrong: {one['msg']}"
