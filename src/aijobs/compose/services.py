"""From a spec and what the app says of itself to the services of a deployment."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from aijobs.compose import health
from aijobs.compose.inspection import Facts
from aijobs.compose.model import Probe, Published, Service, User, Volume
from aijobs.compose.monitoring import monitoring
from aijobs.compose.spec import (
    API_PORT,
    BEAT_FOLDER,
    CACHE_FOLDER,
    FILES_FOLDER,
    USER_ID,
    USER_NAME,
    DeploymentSpec,
    ServiceName,
    WorkerClass,
)
from aijobs.compose.stores import addresses, stores
from aijobs.errors import ConfigurationError

#: Beyond the time that running jobs get: to give back those that are left, and to end.
GRACE_SECONDS = 10
#: For jobs that may take as long as they want, where nothing says how long that is.
UNBOUNDED_GRACE_SECONDS = 3_600

#: Memory of a process of the app, mebibytes.
PROCESS_MEMORY = 512
#: How often the scheduler looks; another takes its lock over after five times that, seconds.
BEAT_INTERVAL = 5

FILES = Volume("files", FILES_FOLDER, "uploaded files, which the API writes and the workers read", shared=True)
CACHE = Volume("cache", CACHE_FOLDER, "models and the like that the app downloads", size="20Gi", shared=True)
SCHEDULE = Volume("beat", BEAT_FOLDER, "when each periodic task ran last", size="1Gi")

_SOFT_STOP = (
    "At SIGTERM the worker takes no more jobs; those that run get {soft} to end (worker_soft_shutdown_timeout), and what "
    "is left goes back to its queue. The rest is for that, and to be gone before SIGKILL. aijobs does this at SIGTERM "
    "in every pool, so what Celery itself needs for a soft stop, REMAP_SIGTERM=SIGQUIT, is not set."
)
_LONG_SOFT_STOP = (
    "At SIGTERM the worker takes no more jobs and waits for those that run, as long as they take "
    "(worker_soft_shutdown_timeout is 0). So this is the longest time limit of the tasks, and something to end in. "
    "What is cut off runs again after the worker's lease."
)
_REDBEAT = (
    f"Two, of which only the one with the lock schedules; the other takes over {5 * BEAT_INTERVAL} s after it is gone."
)
_ONE_BEAT = "One only: two would send every periodic task twice. For more, let the app use celery-redbeat."


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything that is to run."""

    spec: DeploymentSpec
    facts: Facts
    services: tuple[Service, ...]
    #: What every container of the app is told.
    environment: Mapping[str, str] = field(default_factory=dict)

    def service(self, name: str) -> Service:
        """The service of this name."""
        return next(one for one in self.services if one.name == name)

    @property
    def workers(self) -> tuple[Service, ...]:
        """The services that run jobs."""
        return tuple(one for one in self.services if one.queues)

    @property
    def volumes(self) -> dict[str, Volume]:
        """The volumes by name."""
        return {volume.name: volume for one in self.services for volume in one.volumes}


def deployment(spec: DeploymentSpec, facts: Facts) -> Deployment:
    """All services of a deployment.

    Raises:
        ConfigurationError: the app's queues cannot be served as the spec says.
    """
    servers = tuple(stores(spec))
    kinds = worker_classes(spec, facts)
    needs = tuple(one.name for one in servers)
    services = (
        *([_api(spec, needs)] if spec.api else []),
        *(_worker(spec, facts, name, kind, needs) for name, kind in kinds.items()),
        *([_beat(spec, facts, needs)] if facts.has_schedule or spec.has(ServiceName.BEAT) else []),
        *servers,
        *monitoring(spec, [queue for kind in kinds.values() for queue in kind.queues]),
    )
    environment = {**dict(addresses(spec)), "AIJOBS_FILES_URL": FILES_FOLDER, "XDG_CACHE_HOME": CACHE_FOLDER}
    return Deployment(spec, facts, services, environment)


def worker_classes(spec: DeploymentSpec, facts: Facts) -> dict[str, WorkerClass]:
    """The classes of workers by the names of their services; each has its queues.

    Raises:
        ConfigurationError: a queue of the app would have no workers, or cannot be served.
    """
    if not spec.queues:
        return _of_the_app(spec, facts)
    given = {
        _service_of(name): kind.model_copy(update={"queues": kind.queues or (name,)})
        for name, kind in spec.queues.items()
    }
    served = {queue for kind in given.values() for queue in kind.queues}
    for queue in facts.queues:
        if queue.tasks and queue.name not in served:
            raise ConfigurationError(
                f"No workers take jobs from the queue {queue.name!r}, where {', '.join(queue.tasks)} would wait for ever: "
                "add it to one of the classes in queues."
            )
    return given


def _of_the_app(spec: DeploymentSpec, facts: Facts) -> dict[str, WorkerClass]:
    names = [queue.name for queue in facts.queues]
    has_own = spec.gpu and "gpu" in names
    found: dict[str, WorkerClass] = {}
    for position, queue in enumerate(names):
        name = "worker" if position == 0 else _service_of(_slug(queue))
        if name in found:
            raise ConfigurationError(
                f"The queues {', '.join(names)} make two services named {name}: name classes of workers in queues."
            )
        gpu = spec.gpu and (queue == "gpu" or not has_own)
        found[name] = WorkerClass.model_validate({"queues": (_safe(queue),), "gpu": gpu})
    return found


def _service_of(name: str) -> str:
    return name if name == "worker" else f"worker-{name}"


def _slug(queue: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", queue.lower()).strip("-")[:32].strip("-") or "other"


def _safe(queue: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}", queue):
        raise ConfigurationError(
            f"The queue {queue!r} of the app cannot be written into commands: queues take letters, digits and the "
            "characters _ . -"
        )
    return queue


def grace_of(facts: Facts) -> int:
    """How long a worker may take to stop, whole seconds."""
    if facts.soft_shutdown_seconds > 0:
        return math.ceil(facts.soft_shutdown_seconds) + GRACE_SECONDS
    longest = facts.longest_seconds
    return UNBOUNDED_GRACE_SECONDS if longest is None else math.ceil(longest) + GRACE_SECONDS


def _app_user() -> User:
    return User(USER_NAME, USER_ID, USER_ID)


def _api(spec: DeploymentSpec, needs: tuple[str, ...]) -> Service:
    return Service(
        "api",
        "The API.",
        Probe(health.API_COMMAND, start=60),
        command=(
            *("uvicorn", str(spec.api)),
            "--host=0.0.0.0",
            f"--port={API_PORT}",
            f"--workers={spec.api_processes}",
            "--timeout-graceful-shutdown=20",
        ),
        memory=PROCESS_MEMORY * (spec.api_processes + 1),
        grace=30,
        user=_app_user(),
        volumes=(FILES, CACHE),
        scratch=("/tmp",),  # noqa: S108 - the container's own
        read_only=True,
        port=API_PORT,
        published=Published(spec.port, API_PORT, "API"),
        outside=True,
        needs=needs,
        notes={
            "ports": "The only port for others, and at first for this machine alone: put a proxy that speaks TLS in "
            "front of it, or set API_BIND=0.0.0.0 in .env.",
            "stop_grace_period": "Requests get 20 s to end; event streams end at once, and clients go on where they were.",
        },
    )


def _worker(spec: DeploymentSpec, facts: Facts, name: str, kind: WorkerClass, needs: tuple[str, ...]) -> Service:
    concurrency = kind.concurrency or spec.concurrency
    soft = facts.soft_shutdown_seconds
    return Service(
        name,
        f"Runs the jobs of {_counted(kind.queues)}.",
        # A busy machine may start Python slowly; a worker that hangs does so for minutes.
        Probe(health.WORKER_COMMAND, interval=15, timeout=10, start=60),
        command=(
            *("celery", "-A", spec.app, "worker"),
            "--loglevel=INFO",
            f"--concurrency={concurrency}",
            f"--queues={','.join(kind.queues)}",
        ),
        memory=_mebibytes(kind.memory) or PROCESS_MEMORY * (concurrency + 1),
        pids=max(256, 32 * (concurrency + 1)),
        replicas=kind.workers or spec.workers,
        grace=grace_of(facts),
        user=_app_user(),
        volumes=(FILES, CACHE),
        scratch=("/tmp",),  # noqa: S108 - the container's own
        read_only=True,
        outside=True,
        needs=needs,
        gpu=kind.gpu,
        queues=kind.queues,
        notes={
            "deploy": f"{concurrency} at a time in each. For more jobs at a time prefer more containers to a higher "
            f"concurrency. Memory: {PROCESS_MEMORY} MiB for each process of jobs and for the one above them; models may "
            "need more.",
            "stop_grace_period": _SOFT_STOP.format(soft=f"{soft:g} s") if soft > 0 else _LONG_SOFT_STOP,
        },
    )


def _beat(spec: DeploymentSpec, facts: Facts, needs: tuple[str, ...]) -> Service:
    own = () if facts.has_lock else (f"--schedule={BEAT_FOLDER}/celerybeat-schedule",)
    return Service(
        "beat",
        "Sends the periodic tasks.",
        Probe(health.BEAT_COMMAND, interval=15, timeout=10, start=60),
        command=(
            *("celery", "-A", spec.app, "beat"),
            "--loglevel=INFO",
            f"--max-interval={BEAT_INTERVAL}",
            *own,
        ),
        memory=PROCESS_MEMORY,
        replicas=2 if facts.has_lock else 1,
        user=_app_user(),
        volumes=() if facts.has_lock else (SCHEDULE,),
        scratch=("/tmp",),  # noqa: S108 - the container's own
        read_only=True,
        outside=True,
        needs=needs,
        notes={"deploy": _REDBEAT if facts.has_lock else _ONE_BEAT},
    )


def _counted(queues: tuple[str, ...]) -> str:
    return f"the queue {queues[0]}" if len(queues) == 1 else f"the queues {', '.join(queues)}"


def _mebibytes(memory: str | None) -> int | None:
    if memory is None:
        return None
    return int(memory[:-1]) * (1024 if memory.endswith("G") else 1)
