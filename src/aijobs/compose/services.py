"""From a spec and what the app says of itself to the services of a deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aijobs.compose import apps
from aijobs.compose.classes import worker_classes
from aijobs.compose.inspection import Facts
from aijobs.compose.model import Service, Volume
from aijobs.compose.monitoring import monitoring
from aijobs.compose.spec import CACHE_FOLDER, FILES_FOLDER, HEALTH_FOLDER, DeploymentSpec, ServiceName
from aijobs.compose.stores import addresses, stores

#: Where the app finds its folders. Files may be in a bucket as well, which `.env` names.
FOLDERS = {
    "AIJOBS_FILES_URL": f"${{AIJOBS_FILES_URL:-{FILES_FOLDER}}}",
    "AIJOBS_HEALTH_FOLDER": HEALTH_FOLDER,
    "XDG_CACHE_HOME": CACHE_FOLDER,
}


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything that is to run."""

    spec: DeploymentSpec
    facts: Facts
    services: tuple[Service, ...]
    #: What every container of the app is told.
    environment: Mapping[str, str] = field(default_factory=dict)

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
        *([apps.api(spec, facts, needs)] if spec.api else []),
        *(apps.worker(spec, facts, name, kind, needs) for name, kind in kinds.items()),
        *([apps.beat(spec, facts, needs)] if facts.has_schedule or spec.has(ServiceName.BEAT) else []),
        *servers,
        *monitoring(spec, [queue for kind in kinds.values() for queue in kind.queues]),
    )
    environment = {**dict(addresses(spec)), **FOLDERS}
    return Deployment(spec, facts, services, environment)
