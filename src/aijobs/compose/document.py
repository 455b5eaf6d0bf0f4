"""compose.yaml, by the Compose Specification."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from aijobs.compose.model import PLACEHOLDER, SCRATCH_MEMORY, Published, Service
from aijobs.compose.services import Deployment
from aijobs.compose.yaml import Alias, Anchor, Node, Note, dump

_COMMON = (
    "What all services have. init: a small first process passes signals on and clears away dead ones. "
    "No service gets a privilege of root, nor may it gain one."
)
_LOGGING = "Logs never fill the disk: three files of 10 MB for each container."
_APP = (
    "What API, workers and scheduler have: one image, one environment. .env brings the app's own variables; what is "
    "named here comes before it."
)
_READ_ONLY = "Only volumes and /tmp can be written to, so whoever breaks in cannot settle."
_NETWORKS = {
    "backend": Note("The servers: no way in from outside, and none out.", {"internal": True}),
    "outside": Note("The way out, to models and the like, and in to published ports.", {}),
}
_GPU_NOTE = (
    "Needs the NVIDIA Container Toolkit on the machine. With a count, every container gets the first GPU; to give them "
    "one each, make a service for each, with device_ids in place of count."
)
_GPU: Node = {"devices": [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]}


def render(plan: Deployment) -> str:
    """The file's text, without its header."""
    document: dict[str, Node] = {
        "name": plan.spec.project,
        "x-common": Note(_COMMON, Anchor("common", _common())),
        "x-app": Note(_APP, Anchor("app", _app(plan))),
        "services": {one.name: Note(one.why, _service(one)) for one in plan.services},
        "networks": _NETWORKS,
        "volumes": {
            volume.name: Note(f"{volume.why[0].upper()}{volume.why[1:]}.", {}) for volume in plan.volumes.values()
        },
    }
    return dump(document, spaced="services")


def _common() -> dict[str, Node]:
    return {
        "init": True,
        "restart": "unless-stopped",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "logging": Note(_LOGGING, {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}),
    }


def _app(plan: Deployment) -> dict[str, Node]:
    return {
        "image": f"{plan.spec.project}:${{IMAGE_TAG:-latest}}",
        "build": {"context": "."},
        "env_file": [".env"],
        "environment": _environment(plan.environment),
        "read_only": Note(_READ_ONLY, True),
    }


def _service(service: Service) -> dict[str, Node]:
    parts: dict[str, Node] = {
        "<<": [Alias("common"), Alias("app")] if service.is_app else Alias("common"),
        **_program(service),
        **_room(service),
        **_connections(service),
        "healthcheck": _healthcheck(service),
        "stop_grace_period": f"{service.grace}s",
        "deploy": _deploy(service),
    }
    if service.profile:
        parts["profiles"] = [service.profile.value]
    return {key: Note(service.notes[key], part) if key in service.notes else part for key, part in parts.items()}


def _program(service: Service) -> dict[str, Node]:
    parts: dict[str, Node] = {}
    if service.image:
        parts["image"] = service.image
    if service.user and not service.is_app:
        parts["user"] = service.user.name
    if service.command:
        parts["command"] = [_escaped(part) for part in service.command]
    if service.environment:
        parts["environment"] = _environment(service.environment)
    return parts


def _room(service: Service) -> dict[str, Node]:
    parts: dict[str, Node] = {}
    if service.read_only and not service.is_app:
        parts["read_only"] = True
    if service.shared_memory:
        parts["shm_size"] = f"{service.shared_memory}m"
    if service.scratch:
        parts["tmpfs"] = [f"{folder}:mode=1777,size={SCRATCH_MEMORY}m" for folder in service.scratch]
    volumes = [f"{volume.name}:{volume.path}" for volume in service.volumes]
    binds = [f"./{PurePosixPath(bind.source)}:{bind.path}:ro" for bind in service.binds]
    if volumes or binds:
        parts["volumes"] = [*volumes, *binds]
    return parts


def _connections(service: Service) -> dict[str, Node]:
    parts: dict[str, Node] = {"networks": ["backend", "outside"] if service.outside else ["backend"]}
    if service.published:
        parts["ports"] = [_port(service.published)]
    if service.needs:
        parts["depends_on"] = {name: {"condition": "service_healthy"} for name in service.needs}
    return parts


def _port(published: Published) -> str:
    name = published.variable
    return f"${{{name}_BIND:-127.0.0.1}}:${{{name}_PORT:-{published.port}}}:{published.inside}"


def _healthcheck(service: Service) -> dict[str, Node]:
    probe = service.probe
    return {
        "test": ["CMD", *(_escaped(part) for part in probe.command)],
        "interval": f"{probe.interval}s",
        "timeout": f"{probe.timeout}s",
        "retries": probe.retries,
        "start_period": f"{probe.start}s",
    }


def _deploy(service: Service) -> dict[str, Node]:
    resources: dict[str, Node] = {"limits": {"memory": f"{service.memory}M", "pids": service.pids}}
    if service.gpu:
        resources["reservations"] = Note(_GPU_NOTE, _GPU)
    return {"replicas": service.replicas, "resources": resources} if service.is_app else {"resources": resources}


def _environment(variables: Mapping[str, str]) -> dict[str, Node]:
    return {name: PLACEHOLDER.sub(r"${\1:?is not set in .env}", value) for name, value in variables.items()}


def _escaped(part: str) -> str:
    """Text for the container's shell, not for Compose."""
    return part.replace("$", "$$")
