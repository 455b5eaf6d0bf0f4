"""Pods, as Kubernetes has them: the rules of compose.yaml in its words."""

from __future__ import annotations

from collections.abc import Mapping

from aijobs.compose.model import OPTIONAL, PLACEHOLDER, SCRATCH_MEMORY, Service, Volume
from aijobs.compose.yaml import Node, Note

#: Between a pod's removal from its service and its SIGTERM, since the news takes a while to reach every node, seconds.
DRAIN_SECONDS = 5

_LINKS = "Or a service named redis would set REDIS_PORT to something that is no port."


def labels(service: Service) -> dict[str, Node]:
    """What tells the pods of a service from others."""
    return {"app.kubernetes.io/name": service.name}


def pod(service: Service, project: str, environment: Mapping[str, str]) -> dict[str, Node]:
    """The template of a service's pods.

    Args:
        service: the service.
        project: the deployment's name, which image and secret are called by.
        environment: what every container of the app is told.
    """
    drain = DRAIN_SECONDS if service.published else 0
    return {
        "metadata": {"labels": labels(service)},
        "spec": {
            "terminationGracePeriodSeconds": service.grace + drain,
            "automountServiceAccountToken": False,
            "enableServiceLinks": Note(_LINKS, False),
            "securityContext": _identity(service),
            "containers": [_container(service, project, environment, drain)],
            **_volumes(service),
        },
    }


def claim(volume: Volume) -> dict[str, Node]:
    """What a volume claims of the cluster."""
    shared = "API and workers use it, on whichever node they are. Where no storage class offers this, keep files in a "
    mode: Node = ["ReadWriteOnce"]
    if volume.shared:
        mode = Note(
            shared + "bucket: change AIJOBS_FILES_URL of both to s3://… and take the volume out.", ["ReadWriteMany"]
        )
    return {"accessModes": mode, "resources": {"requests": {"storage": volume.size}}}


def is_claimed(volume: Volume) -> bool:
    """Whether a volume is storage of the cluster; caches are folders of their node."""
    return volume.name != "cache"


def _identity(service: Service) -> dict[str, Node]:
    parts: dict[str, Node] = {"seccompProfile": {"type": "RuntimeDefault"}}
    if service.user:
        user = service.user
        parts |= {"runAsNonRoot": True, "runAsUser": user.uid, "runAsGroup": user.gid, "fsGroup": user.gid}
    return parts


def _container(service: Service, project: str, environment: Mapping[str, str], drain: int) -> dict[str, Node]:
    parts: dict[str, Node] = {"name": service.name, "image": service.image or project}
    if service.command:
        # Images of others have programs of their own, which take arguments.
        has_program = service.is_app or service.command[0] in {"sh", "bash"}
        parts["command" if has_program else "args"] = list(service.command)
    if service.is_app:
        parts["envFrom"] = [{"secretRef": {"name": f"{project}-env"}}]
    variables = {**environment, **service.environment} if service.is_app else service.environment
    if variables:
        parts["env"] = _environment(variables, project)
    if service.port:
        parts["ports"] = [{"containerPort": service.port}]
    if drain:
        parts["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", str(drain)]}}}
    return parts | _probes(service) | _limits(service) | _mounts(service)


def _environment(variables: Mapping[str, str], project: str) -> list[Node]:
    """Variables; those that others are made of come first, as Kubernetes wants it, which knows no defaults."""
    variables = {name: OPTIONAL.sub(r"\1", value) for name, value in variables.items()}
    secrets = sorted({name for value in variables.values() for name in PLACEHOLDER.findall(value)})
    known: list[Node] = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": f"{project}-env", "key": name}}} for name in secrets
    ]
    made = {name: PLACEHOLDER.sub(r"$(\1)", value) for name, value in variables.items() if value != f"${{{name}}}"}
    return [*known, *({"name": name, "value": value} for name, value in made.items())]


def _probes(service: Service) -> dict[str, Node]:
    probe = service.probe
    well: dict[str, Node] = {
        "exec": {"command": list(probe.command)},
        "periodSeconds": probe.interval,
        "timeoutSeconds": probe.timeout,
        "failureThreshold": probe.retries,
    }
    # A store that is away is no reason to restart an API.
    alive: dict[str, Node] = well | {"exec": {"command": list(probe.live or probe.command)}}
    parts: dict[str, Node] = {
        "startupProbe": alive | {"failureThreshold": max(probe.retries, probe.start // probe.interval)},
        "livenessProbe": alive,
    }
    # Nobody sends requests to a worker, so none has to be told that it is ready.
    return parts | {"readinessProbe": well} if service.port else parts


def _limits(service: Service) -> dict[str, Node]:
    memory = f"{service.memory}Mi"
    limits: dict[str, Node] = {"memory": memory}
    if service.gpu:
        limits["nvidia.com/gpu"] = 1
    rights: dict[str, Node] = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": service.read_only,
        "capabilities": {"drop": ["ALL"]},
    }
    requests: dict[str, Node] = {"cpu": "100m", "memory": memory}
    return {"resources": {"requests": requests, "limits": limits}, "securityContext": rights}


def _mounts(service: Service) -> dict[str, Node]:
    mounts: list[Node] = [{"name": volume.name, "mountPath": volume.path} for volume in service.volumes]
    mounts += [{"name": _folder_name(folder), "mountPath": folder} for folder in _in_memory(service)]
    mounts += [
        {"name": "files-of-the-project", "mountPath": bind.path, "subPath": bind.source.rsplit("/", 1)[-1]}
        for bind in service.binds
    ]
    return {"volumeMounts": mounts} if mounts else {}


def _volumes(service: Service) -> dict[str, Node]:
    volumes: list[Node] = [
        {"name": one.name, "persistentVolumeClaim": {"claimName": one.name}}
        if is_claimed(one)
        else {"name": one.name, "emptyDir": {"sizeLimit": one.size}}
        for one in service.volumes
        if service.is_app
    ]
    volumes += [
        {"name": _folder_name(folder), "emptyDir": {"medium": "Memory", "sizeLimit": f"{size}Mi"}}
        for folder, size in _in_memory(service).items()
    ]
    if service.binds:
        volumes.append({"name": "files-of-the-project", "configMap": {"name": f"{service.name}-files"}})
    return {"volumes": volumes} if volumes else {}


def _in_memory(service: Service) -> dict[str, int]:
    """Folders that are memory, each with its room in mebibytes."""
    shared = {"/dev/shm": service.shared_memory} if service.shared_memory else {}
    return {**dict.fromkeys(service.scratch, SCRATCH_MEMORY), **shared}


def _folder_name(folder: str) -> str:
    return folder.strip("/").replace("/", "-")
