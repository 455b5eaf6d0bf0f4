"""A kustomize base by the same rules as compose.yaml, and one that scales workers by how many jobs wait."""

from __future__ import annotations

from collections.abc import Iterator

from aijobs.compose.manifests import claim, is_claimed, labels, pod
from aijobs.compose.model import Service
from aijobs.compose.monitoring import DEFAULT_PREFIX, queue_key, status_key
from aijobs.compose.services import Deployment
from aijobs.compose.stores import VECTOR_SQL, vector_sql
from aijobs.compose.yaml import Node, Note, dump
from aijobs.job import JobStatus

# kustomize reads no file from outside its own folder.
_SQL = VECTOR_SQL.rpartition("/")[2]

BASE, KEDA = "deploy/kubernetes/base", "deploy/kubernetes/keda"

_NEIGHBOURS: Node = {"podSelector": {}}
_KEDA: Node = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}
_KEDA_NOTE = "It counts the jobs, from a namespace of its own."

#: Copies of the API, so that one is there while another is exchanged.
API_COPIES = 2
#: At most so many containers of a class of workers, as a multiple of those that there are at first.
MOST_TIMES = 5
#: A container more for so many jobs that wait.
WAITING_EACH = 4


def manifests(plan: Deployment) -> Iterator[tuple[str, str]]:
    """The files, each with its text, without its header."""
    services = [one for one in plan.services if one.profile is None]
    yield f"{BASE}/kustomization.yaml", dump(_kustomization(plan, services))
    yield f"{BASE}/volumes.yaml", _documents(_claims(plan, services))
    yield f"{BASE}/network.yaml", _documents(_policies(plan, services))
    for one in services:
        yield f"{BASE}/{one.name}.yaml", _documents(_objects(plan, one))
    if _has_files(services):
        yield f"{BASE}/{_SQL}", vector_sql()
    yield f"{KEDA}/kustomization.yaml", dump(_scaled(plan))
    yield f"{KEDA}/scaling.yaml", _documents(_scaling(plan))


def _documents(objects: Iterator[dict[str, Node]]) -> str:
    return "---\n".join(dump(one).replace("\n\n", "\n") for one in objects)


def _has_files(services: list[Service]) -> bool:
    return any(one.binds for one in services)


def _kustomization(plan: Deployment, services: list[Service]) -> dict[str, Node]:
    project = plan.spec.project
    parts: dict[str, Node] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": Note("Of its own, so that services may have their plain names.", project),
        "labels": [{"pairs": {"app.kubernetes.io/part-of": project}, "includeSelectors": True}],
        "images": Note(
            "The image of the app: where your registry has it, and which. A digest or a tag for each build, so that a "
            "rollout is one.",
            [{"name": project, "newName": project, "newTag": "latest"}],
        ),
        "resources": ["volumes.yaml", "network.yaml", *(f"{one.name}.yaml" for one in services)],
    }
    if _has_files(services):
        parts["configMapGenerator"] = [{"name": "postgres-files", "files": [_SQL]}]
    return parts


def _claims(plan: Deployment, services: list[Service]) -> Iterator[dict[str, Node]]:
    volumes = {volume.name: volume for one in services if one.is_app for volume in one.volumes}
    for volume in volumes.values():
        if is_claimed(volume):
            yield _object("v1", "PersistentVolumeClaim", volume.name, claim(volume))


def _policies(plan: Deployment, services: list[Service]) -> Iterator[dict[str, Node]]:
    """Who may reach whom: everybody the API, the app its servers, and nobody anything else."""
    closed: dict[str, Node] = {"podSelector": {}, "policyTypes": ["Ingress"]}
    yield _object("networking.k8s.io/v1", "NetworkPolicy", "nothing-comes-in", closed)
    for one in services:
        if one.port:
            way: dict[str, Node] = {"ports": [{"port": one.port}]}
            if not one.is_app:
                way["from"] = [_NEIGHBOURS, Note(_KEDA_NOTE, _KEDA)] if one.name == plan.spec.broker else [_NEIGHBOURS]
            spec: dict[str, Node] = {
                "podSelector": {"matchLabels": labels(one)},
                "policyTypes": ["Ingress"],
                "ingress": [way],
            }
            yield _object("networking.k8s.io/v1", "NetworkPolicy", f"{one.name}-is-reached", spec)


def _objects(plan: Deployment, service: Service) -> Iterator[dict[str, Node]]:
    template = pod(service, plan.spec.project, plan.environment)
    selector: dict[str, Node] = {"matchLabels": labels(service)}
    if service.is_app:
        yield _object("apps/v1", "Deployment", service.name, _deployment(service, selector, template))
    else:
        yield _object("apps/v1", "StatefulSet", service.name, _stateful(service, selector, template))
    if service.port:
        ports: list[Node] = [{"port": service.port}]
        yield _object("v1", "Service", service.name, {"selector": labels(service), "ports": ports})
    if service.published or service.queues:
        budget: dict[str, Node] = {"maxUnavailable": 1, "selector": selector}
        yield _object("policy/v1", "PodDisruptionBudget", service.name, budget)


def _deployment(service: Service, selector: Node, template: Node) -> dict[str, Node]:
    replicas = API_COPIES if service.published else service.replicas
    parts: dict[str, Node] = {"replicas": replicas, "selector": selector}
    if service.published:
        parts["strategy"] = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    elif service.volumes and not service.queues:
        parts["strategy"] = Note("Never two schedulers at a time, nor two for one volume.", {"type": "Recreate"})
    return parts | {"template": template}


def _stateful(service: Service, selector: Node, template: Node) -> dict[str, Node]:
    claims: list[Node] = [{"metadata": {"name": one.name}, "spec": claim(one)} for one in service.volumes]
    return {
        "replicas": 1,
        "serviceName": service.name,
        "selector": selector,
        "template": template,
        "volumeClaimTemplates": claims,
    }


def _scaled(plan: Deployment) -> dict[str, Node]:
    away: Node = "- op: remove\n  path: /spec/replicas\n"
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": plan.spec.project,
        "resources": ["../base", "scaling.yaml"],
        "patches": Note(
            "How many there are is KEDA's to say.",
            [{"target": {"kind": "Deployment", "name": one.name}, "patch": away} for one in plan.workers],
        ),
    }


def _scaling(plan: Deployment) -> Iterator[dict[str, Node]]:
    secret: Node = [{"parameter": "password", "name": f"{plan.spec.project}-env", "key": "REDIS_PASSWORD"}]
    yield _object("keda.sh/v1alpha1", "TriggerAuthentication", "broker", {"secretTargetRef": secret})
    for one in plan.workers:
        yield _object("keda.sh/v1alpha1", "ScaledObject", one.name, _scaled_object(plan, one))


def _scaled_object(plan: Deployment, workers: Service) -> dict[str, Node]:
    slowly: Node = {"stabilizationWindowSeconds": 300, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}
    return {
        "scaleTargetRef": {"name": workers.name},
        "minReplicaCount": 1,
        "maxReplicaCount": workers.replicas * MOST_TIMES,
        "advanced": Note(
            "A worker that is taken away gives its jobs back, and they begin anew: so only after five quiet minutes.",
            {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": slowly}}},
        ),
        "triggers": Note(
            "A worker for so many jobs that wait, and for as many that run as it runs at a time: those of other "
            "workers count as well, so there are rather too many than too few. Keys begin with AIJOBS_KEY_PREFIX.",
            list(_triggers(plan, workers)),
        ),
    }


def _triggers(plan: Deployment, workers: Service) -> Iterator[Node]:
    counted = {queue_key(queue, DEFAULT_PREFIX): WAITING_EACH for queue in workers.queues}
    for key, each in {**counted, status_key(JobStatus.RUNNING, DEFAULT_PREFIX): workers.concurrency}.items():
        yield {
            "type": "redis",
            "metadata": {
                "address": f"{plan.spec.broker}.{plan.spec.project}:6379",
                "listName": key,
                "listLength": str(each),
            },
            "authenticationRef": {"name": "broker"},
        }


def _object(version: str, kind: str, name: str, spec: dict[str, Node]) -> dict[str, Node]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
