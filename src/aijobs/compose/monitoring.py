"""What shows people how the deployment does, and what puts it under load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aijobs._vitals import API_PORT
from aijobs.compose.model import Bind, Probe, Profile, Published, Service, User, Volume
from aijobs.compose.spec import DeploymentSpec, ServiceName
from aijobs.job import JobStatus

FLOWER_IMAGE = "mher/flower:2.0"
EXPORTER_IMAGE = "oliver006/redis_exporter:v1.80.0-alpine"
PROMETHEUS_IMAGE = "prom/prometheus:v3.5.0"
GRAFANA_IMAGE = "grafana/grafana:12.2.1"
LOCUST_IMAGE = "locustio/locust:2.43.3"

#: Where Prometheus finds the broker's numbers.
EXPORTER_PORT = 9121
#: The key prefix of the store, in which people may have chosen another.
DEFAULT_PREFIX = "aijobs"
KEY_PREFIX = f"${{AIJOBS_KEY_PREFIX:-{DEFAULT_PREFIX}}}"

_LOOPBACK = "Reachable from this machine only; from others through a tunnel, such as ssh -L {port}:localhost:{port}."


def monitoring(spec: DeploymentSpec, queues: Sequence[str]) -> Iterator[Service]:
    """The services with dashboards, and what feeds them.

    Args:
        spec: the deployment.
        queues: the queues that jobs wait in.
    """
    if spec.has(ServiceName.FLOWER):
        yield _flower(spec)
    if spec.has(ServiceName.PROMETHEUS):
        yield _exporter(spec, queues)
        yield _prometheus(spec)
    if spec.has(ServiceName.GRAFANA):
        yield _grafana(spec)
    if spec.has(ServiceName.LOCUST):
        yield _locust(spec)


def counted_keys(queues: Sequence[str], prefix: str) -> list[str]:
    """The keys of the store whose sizes say how the jobs do: by status, by queue, and the workers."""
    listings = [status_key(status, prefix) for status in JobStatus]
    return [*listings, *(queue_key(queue, prefix) for queue in queues), f"{prefix}:workers"]


def status_key(status: JobStatus, prefix: str) -> str:
    """Where the store lists the jobs with a status."""
    return f"{prefix}:jobs:{status}"


def queue_key(queue: str, prefix: str) -> str:
    """Where the store lists the jobs that wait in a queue."""
    return f"{prefix}:queue:{queue}"


def _published(spec: DeploymentSpec, name: ServiceName, inside: int) -> Published:
    return Published(spec.dashboards[name], inside, name.upper())


def _local(spec: DeploymentSpec, name: ServiceName) -> dict[str, str]:
    return {"ports": _LOOPBACK.format(port=spec.dashboards[name])}


def _wget(url: str) -> Probe:
    return Probe(("wget", "-q", "-O", "/dev/null", url))


def _flower(spec: DeploymentSpec) -> Service:
    return Service(
        "flower",
        "Celery's monitor: workers, and the tasks that pass while it runs.",
        _wget("http://127.0.0.1:5555/healthcheck"),
        image=FLOWER_IMAGE,
        command=("celery", "flower"),
        environment={
            "CELERY_BROKER_URL": f"redis://:${{REDIS_PASSWORD}}@{spec.broker}:6379/0",
            "FLOWER_BASIC_AUTH": "admin:${FLOWER_PASSWORD}",
        },
        scratch=("/tmp",),
        published=_published(spec, ServiceName.FLOWER, 5555),
        outside=True,
        needs=(spec.broker.value,),
        profile=Profile.MONITORING,
        notes=_local(spec, ServiceName.FLOWER),
    )


def _exporter(spec: DeploymentSpec, queues: Sequence[str]) -> Service:
    return Service(
        "redis-exporter",
        "Counts, for Prometheus: the server itself, and the jobs by status and queue, straight from their records.",
        _wget(f"http://127.0.0.1:{EXPORTER_PORT}/health"),
        image=EXPORTER_IMAGE,
        environment={
            "REDIS_ADDR": f"redis://{spec.broker}:6379",
            "REDIS_PASSWORD": "${REDIS_PASSWORD}",
            "REDIS_EXPORTER_CHECK_SINGLE_KEYS": ",".join(f"db0={key}" for key in counted_keys(queues, KEY_PREFIX)),
        },
        memory=64,
        read_only=True,
        port=EXPORTER_PORT,
        needs=(spec.broker.value,),
        profile=Profile.MONITORING,
    )


def _prometheus(spec: DeploymentSpec) -> Service:
    return Service(
        "prometheus",
        "Keeps what was counted, for 15 days.",
        _wget("http://127.0.0.1:9090/-/healthy"),
        image=PROMETHEUS_IMAGE,
        command=(
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            "--storage.tsdb.retention.time=15d",
        ),
        memory=512,
        grace=60,
        user=User("nobody", 65534, 65534),
        volumes=(Volume("prometheus-data", "/prometheus", "what was counted"),),
        binds=(Bind("deploy/prometheus/prometheus.yml", "/etc/prometheus/prometheus.yml"),),
        read_only=True,
        port=9090,
        published=_published(spec, ServiceName.PROMETHEUS, 9090),
        outside=True,
        needs=("redis-exporter",),
        profile=Profile.MONITORING,
        notes=_local(spec, ServiceName.PROMETHEUS),
    )


def _grafana(spec: DeploymentSpec) -> Service:
    return Service(
        "grafana",
        "Dashboards; the one of the jobs is there from the start. The user is admin.",
        _wget("http://127.0.0.1:3000/api/health"),
        image=GRAFANA_IMAGE,
        environment={
            "GF_SECURITY_ADMIN_PASSWORD": "${GRAFANA_PASSWORD}",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        },
        memory=512,
        volumes=(Volume("grafana-data", "/var/lib/grafana", "dashboards that were changed by hand"),),
        binds=(
            Bind("deploy/grafana/provisioning", "/etc/grafana/provisioning"),
            Bind("deploy/grafana/dashboards", "/etc/grafana/dashboards"),
        ),
        published=_published(spec, ServiceName.GRAFANA, 3000),
        outside=True,
        needs=("prometheus",),
        profile=Profile.MONITORING,
        notes=_local(spec, ServiceName.GRAFANA),
    )


def _locust(spec: DeploymentSpec) -> Service:
    return Service(
        "locust",
        "Puts the API under load.",
        Probe(("python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8089/', timeout=3)")),
        image=LOCUST_IMAGE,
        command=("--locustfile", "/mnt/locust/locustfile.py", "--host", f"http://api:{API_PORT}"),
        environment={"LOAD_TASK": "${LOAD_TASK:-}", "LOAD_INPUT": "${LOAD_INPUT:-}"},
        memory=512,
        binds=(Bind("deploy/locust/locustfile.py", "/mnt/locust/locustfile.py"),),
        published=_published(spec, ServiceName.LOCUST, 8089),
        outside=True,
        needs=("api",),
        profile=Profile.LOAD,
        notes=_local(spec, ServiceName.LOCUST),
    )
