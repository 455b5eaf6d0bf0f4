"""The services that run the team's own code: API, workers, scheduler."""

from __future__ import annotations

import math

from aijobs._vitals import API_PORT
from aijobs.compose import health
from aijobs.compose.inspection import Facts
from aijobs.compose.model import Probe, Published, Service, User, Volume
from aijobs.compose.spec import (
    BEAT_FOLDER,
    CACHE_FOLDER,
    FILES_FOLDER,
    USER_ID,
    USER_NAME,
    DeploymentSpec,
    WorkerClass,
)

#: Beyond the time that running jobs get: to give back those that are left, and to end.
GRACE_SECONDS = 10
#: For jobs that may take as long as they want, where nothing says how long that is.
UNBOUNDED_GRACE_SECONDS = 3_600

#: Memory of a process of the app, mebibytes.
PROCESS_MEMORY = 512
#: Jobs at a time in a worker with the asyncio pool.
ASYNCIO_CONCURRENCY = 100
#: Processes and threads of a container. Libraries for numbers start a thread for each core in each process.
MOST_THREADS = 1024
#: How often the scheduler looks; another takes its lock over after five times that, seconds.
BEAT_INTERVAL = 5

APP_USER = User(USER_NAME, USER_ID, USER_ID)
FILES = Volume("files", FILES_FOLDER, "uploaded files, which the API writes and the workers read", shared=True)
CACHE = Volume("cache", CACHE_FOLDER, "models and the like that the app downloads", size="20Gi", shared=True)
SCHEDULE = Volume("beat", BEAT_FOLDER, "when each periodic task ran last", size="1Gi")

_SOFT_STOP = (
    "At SIGTERM the worker takes no more jobs; those that run get {soft} to end (worker_soft_shutdown_timeout), and "
    "what is left goes back to its queue. The rest is for that, and to be gone before SIGKILL. aijobs does this at "
    "SIGTERM in every pool, so what Celery itself needs for a soft stop, REMAP_SIGTERM=SIGQUIT, is not set."
)
_LONG_SOFT_STOP = (
    "At SIGTERM the worker takes no more jobs and waits for those that run, as long as they take "
    "(worker_soft_shutdown_timeout is 0). So this is the longest time limit of the tasks, and something to end in. "
    "What is cut off runs again after the worker's lease."
)
_REDBEAT = (
    f"Two, of which only the one with the lock schedules; the other takes over {5 * BEAT_INTERVAL} s after it is gone."
)
_ONE_BEAT = "One only: two would send each periodic task twice. celery-redbeat, in the app, makes two possible."


def grace_of(facts: Facts) -> int:
    """How long a worker may take to stop, whole seconds."""
    if facts.soft_shutdown_seconds > 0:
        return math.ceil(facts.soft_shutdown_seconds) + GRACE_SECONDS
    longest = facts.longest_seconds
    return UNBOUNDED_GRACE_SECONDS if longest is None else math.ceil(longest) + GRACE_SECONDS


def api(spec: DeploymentSpec, facts: Facts, needs: tuple[str, ...]) -> Service:
    """The API, with the services that it needs."""
    return Service(
        "api",
        "The API.",
        Probe(health.api_command(facts.health_path), live=health.live_command(), start=60),
        command=(
            *("uvicorn", str(spec.api)),
            "--host=0.0.0.0",
            f"--port={API_PORT}",
            f"--workers={spec.api_processes}",
            "--timeout-graceful-shutdown=20",
        ),
        memory=PROCESS_MEMORY * (spec.api_processes + 1),
        pids=MOST_THREADS,
        grace=30,
        user=APP_USER,
        volumes=(FILES, CACHE),
        scratch=("/tmp",),
        read_only=True,
        port=API_PORT,
        published=Published(spec.port, API_PORT, "API"),
        outside=True,
        needs=needs,
        notes={
            "ports": "The only port for others, and at first for this machine alone: put a proxy that speaks TLS in "
            "front of it, or set API_BIND=0.0.0.0 in .env.",
            "stop_grace_period": "Requests get 20 s to end; event streams end at once, and clients go on "
            "where they were.",
        },
    )


def worker(spec: DeploymentSpec, facts: Facts, name: str, kind: WorkerClass, needs: tuple[str, ...]) -> Service:
    """Workers of one class; `name` is that of the service."""
    concurrency = _concurrency(spec, kind)
    return Service(
        name,
        f"Runs the jobs of {_counted(kind.queues)}.",
        # A busy machine may start Python slowly; a worker that hangs does so for minutes.
        Probe(health.WORKER_COMMAND, interval=15, timeout=10, start=60),
        command=(
            *("celery", "-A", spec.app, "worker"),
            "--loglevel=INFO",
            *([] if kind.pool == "prefork" else [f"--pool={kind.pool}"]),
            f"--concurrency={concurrency}",
            f"--queues={','.join(kind.queues)}",
        ),
        memory=_mebibytes(kind.memory) or PROCESS_MEMORY * (_job_processes(kind, concurrency) + 1),
        pids=MOST_THREADS,
        replicas=kind.workers or _usual(spec, "workers", kind),
        grace=grace_of(facts),
        user=APP_USER,
        volumes=(FILES, CACHE),
        scratch=("/tmp",),
        read_only=True,
        outside=True,
        needs=needs,
        gpu=kind.gpu,
        concurrency=concurrency,
        queues=kind.queues,
        notes=_worker_notes(facts, kind, concurrency),
    )


def _concurrency(spec: DeploymentSpec, kind: WorkerClass) -> int:
    """How many jobs run at a time; in the asyncio pool they cost no process each."""
    usual = ASYNCIO_CONCURRENCY if kind.pool == "asyncio" else _usual(spec, "concurrency", kind)
    return kind.concurrency or usual


def _job_processes(kind: WorkerClass, concurrency: int) -> int:
    """How many processes of a worker execute jobs; pools other than prefork do it in the worker's own."""
    return concurrency if kind.pool == "prefork" else 1


def _usual(spec: DeploymentSpec, name: str, kind: WorkerClass) -> int:
    """What the deployment says; a GPU is for one process unless it says otherwise, since each loads its own models."""
    return 1 if kind.gpu and name not in spec.model_fields_set else int(getattr(spec, name))


def _worker_notes(facts: Facts, kind: WorkerClass, concurrency: int) -> dict[str, str]:
    at_a_time = f"{concurrency} at a time in each."
    if kind.pool == "prefork":
        at_a_time += " For more jobs at a time prefer more containers to a higher concurrency."
    beside = "the one above them" if kind.pool == "prefork" else "its helper"
    memory = f"Memory: {PROCESS_MEMORY} MiB for each process of jobs and for {beside}; models may need more."
    soft = facts.soft_shutdown_seconds
    return {
        "deploy": f"{at_a_time} {memory if kind.memory is None else ''}".rstrip(),
        "stop_grace_period": _SOFT_STOP.format(soft=f"{soft:g} s") if soft > 0 else _LONG_SOFT_STOP,
    }


def beat(spec: DeploymentSpec, facts: Facts, needs: tuple[str, ...]) -> Service:
    """The scheduler of periodic tasks."""
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
        user=APP_USER,
        volumes=() if facts.has_lock else (SCHEDULE,),
        scratch=("/tmp",),
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
