"""The servers that an app keeps its data in."""

from __future__ import annotations

from collections.abc import Iterator

from aijobs.compose.model import Bind, Probe, Service, User, Volume
from aijobs.compose.spec import DeploymentSpec, ServiceName

#: The images, each at a version that gets mends and no surprises.
REDIS_IMAGE = "redis:8-alpine"
VALKEY_IMAGE = "valkey/valkey:8-alpine"
POSTGRES_IMAGE = "postgres:17-alpine"
PGVECTOR_IMAGE = "pgvector/pgvector:pg17"
CHROMA_IMAGE = "chromadb/chroma:1.5.9"
QDRANT_IMAGE = "qdrant/qdrant:v1.17.1-unprivileged"

#: Memory of the broker's container, and of the data in it, mebibytes.
BROKER_MEMORY, BROKER_DATA = 768, 384

VECTOR_SQL = "deploy/postgres/vector.sql"

_CONFIGURATION = """\
exec {server} - <<END
requirepass ${{REDIS_PASSWORD}}
dir /data
appendonly yes
appendfsync everysec
maxmemory {data}mb
maxmemory-policy noeviction
END
"""
_BROKER_NOTES = {
    "command": "The password comes by standard input, so that it is in no list of processes. appendonly: what was "
    "accepted outlives a restart; at most a second is lost when the machine fails. noeviction: a full server refuses "
    "new jobs, and that is seen; evicting would lose accepted ones, and that is not.",
    "deploy": "Twice the data, since rewriting the append-only file may copy it.",
}


def vector_sql() -> str:
    """What a new database with vectors does first."""
    return "CREATE EXTENSION IF NOT EXISTS vector;\n"


def stores(spec: DeploymentSpec) -> Iterator[Service]:
    """The servers of a deployment, the broker first."""
    yield broker(spec)
    if {ServiceName.POSTGRES, ServiceName.PGVECTOR} & spec.services:
        yield _postgres(has_vectors=spec.has(ServiceName.PGVECTOR))
    if spec.has(ServiceName.CHROMA):
        yield _chroma()
    if spec.has(ServiceName.QDRANT):
        yield _qdrant()


def addresses(spec: DeploymentSpec) -> Iterator[tuple[str, str]]:
    """The variables that tell the app where its servers are."""
    broker_url = f"redis://:${{REDIS_PASSWORD}}@{spec.broker}:6379/0"
    for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "REDIS_URL"):
        yield name, broker_url
    if {ServiceName.POSTGRES, ServiceName.PGVECTOR} & spec.services:
        yield "DATABASE_URL", "postgresql://app:${POSTGRES_PASSWORD}@postgres:5432/app"
    if spec.has(ServiceName.CHROMA):
        yield "CHROMA_URL", "http://chroma:8000"
    if spec.has(ServiceName.QDRANT):
        yield "QDRANT_URL", "http://qdrant:6333"
        yield "QDRANT_API_KEY", "${QDRANT_PASSWORD}"


def broker(spec: DeploymentSpec) -> Service:
    """Redis or Valkey: it carries the messages and keeps the records."""
    name = spec.broker.value
    is_redis = spec.broker is ServiceName.REDIS
    return Service(
        name,
        "Carries the messages and keeps the records of the jobs.",
        # An error such as LOADING, while a large file is read at the start, is no failure of the client.
        Probe(("sh", "-c", f'REDISCLI_AUTH="$REDIS_PASSWORD" {name}-cli ping | grep -q PONG'), timeout=3, start=300),
        image=REDIS_IMAGE if is_redis else VALKEY_IMAGE,
        command=("sh", "-c", _CONFIGURATION.format(server=f"{name}-server", data=BROKER_DATA)),
        environment={"REDIS_PASSWORD": "${REDIS_PASSWORD}"},
        memory=BROKER_MEMORY,
        user=User(name, 999, 1000),
        volumes=(Volume(f"{name}-data", "/data", "the jobs' messages and records"),),
        scratch=("/tmp",),
        read_only=True,
        port=6379,
        notes=_BROKER_NOTES,
    )


def _postgres(*, has_vectors: bool) -> Service:
    return Service(
        "postgres",
        "The app's database" + (", with vectors." if has_vectors else "."),
        Probe(("pg_isready", "--username", "app", "--dbname", "app"), start=60),
        image=PGVECTOR_IMAGE if has_vectors else POSTGRES_IMAGE,
        environment={"POSTGRES_USER": "app", "POSTGRES_DB": "app", "POSTGRES_PASSWORD": "${POSTGRES_PASSWORD}"},
        memory=1024,
        shared_memory=256,
        grace=60,
        user=User("postgres", 999, 999) if has_vectors else User("postgres", 70, 70),
        volumes=(Volume("postgres-data", "/var/lib/postgresql/data", "the app's database", size="20Gi"),),
        binds=(Bind(VECTOR_SQL, "/docker-entrypoint-initdb.d/vector.sql"),) if has_vectors else (),
        scratch=("/tmp", "/var/run/postgresql"),
        port=5432,
        notes={
            "user": "Not root: a new volume belongs to this user already, so nothing has to be handed over.",
            "shm_size": "What the processes of one query share. With an engine's own 64 MB, large ones fail.",
        },
    )


def _chroma() -> Service:
    return Service(
        "chroma",
        "The app's vectors. Chroma has no login here: only its neighbours reach it.",
        over_bash("/api/v2/heartbeat", 8000),
        image=CHROMA_IMAGE,
        environment={"ANONYMIZED_TELEMETRY": "FALSE"},
        memory=2048,
        volumes=(Volume("chroma-data", "/data", "the app's vectors", size="20Gi"),),
        port=8000,
    )


def _qdrant() -> Service:
    return Service(
        "qdrant",
        "The app's vectors.",
        over_bash("/readyz", 6333),
        image=QDRANT_IMAGE,
        environment={
            "QDRANT__SERVICE__API_KEY": "${QDRANT_PASSWORD}",
            "QDRANT__TELEMETRY_DISABLED": "true",
            "QDRANT__STORAGE__SNAPSHOTS_PATH": "/qdrant/storage/snapshots",
            "QDRANT_INIT_FILE_PATH": "/qdrant/storage/.initialized",
        },
        memory=2048,
        user=User("1000:1000", 1000, 1000),
        volumes=(Volume("qdrant-data", "/qdrant/storage", "the app's vectors", size="20Gi"),),
        port=6333,
        notes={"environment": "Snapshots and the mark of the first start are put into the volume as well."},
    )


def over_bash(path: str, port: int) -> Probe:
    """A request of an image that has bash, but no program that speaks HTTP."""
    script = (
        f"exec 3<>/dev/tcp/127.0.0.1/{port} && printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3 "
        "&& read -r line <&3 && [[ $line == *' 200 '* ]]"
    )
    return Probe(("bash", "-c", script), start=60)
