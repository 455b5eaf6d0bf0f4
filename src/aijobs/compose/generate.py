"""All files of a deployment."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from aijobs.compose import (
    dashboard,
    dockerfile,
    dockerignore,
    document,
    envfile,
    kubernetes,
    loadtest,
    makefile,
    readme,
)
from aijobs.compose.files import File
from aijobs.compose.inspection import Facts, inspect
from aijobs.compose.installers import find
from aijobs.compose.services import Deployment, deployment
from aijobs.compose.spec import DeploymentSpec, ServiceName
from aijobs.compose.stores import VECTOR_SQL, vector_sql
from aijobs.errors import ConfigurationError

#: Where all files go that need not be in the project's own folder.
FOLDER = "deploy"


def generate(spec: DeploymentSpec, facts: Facts | None = None) -> list[File]:
    """The files of a deployment, the same ones for the same spec and app.

    Args:
        spec: the deployment.
        facts: what the app says of itself; by default it is asked.

    Raises:
        ConfigurationError: the app cannot be imported, or does not go with the spec; the message says what to do.
    """
    plan = deployment(spec, inspect(spec.app, spec.api, spec.root) if facts is None else facts)
    files = [File.of(path, text) for path, text in _texts(plan)]
    known = [file.path for file in files]
    for name in sorted(spec.skip - set(known)):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        raise ConfigurationError(f"skip has {name!r}, which is not written anyway; {hint}")
    return [file for file in files if file.path not in spec.skip]


def _texts(plan: Deployment) -> Iterator[tuple[str, str]]:
    spec = plan.spec
    yield "compose.yaml", document.render(plan)
    yield "Dockerfile", dockerfile.render(spec, find(spec.root, spec.installer))
    yield ".dockerignore", dockerignore.render(spec)
    yield ".env.example", envfile.render(plan)
    yield spec.makefile, makefile.render(plan)
    yield f"{FOLDER}/README.md", readme.render(plan)
    yield from _of_services(plan)
    if spec.kubernetes:
        yield from kubernetes.manifests(plan)


def _of_services(plan: Deployment) -> Iterator[tuple[str, str]]:
    """What some services read."""
    if plan.spec.has(ServiceName.PGVECTOR):
        yield VECTOR_SQL, vector_sql()
    if plan.spec.has(ServiceName.PROMETHEUS):
        yield f"{FOLDER}/prometheus/prometheus.yml", dashboard.prometheus(plan)
    if plan.spec.has(ServiceName.GRAFANA):
        yield f"{FOLDER}/grafana/provisioning/datasources/prometheus.yml", dashboard.datasource()
        yield f"{FOLDER}/grafana/provisioning/dashboards/files.yml", dashboard.provider()
        yield f"{FOLDER}/grafana/dashboards/jobs.json", dashboard.dashboard(plan)
    if plan.spec.has(ServiceName.LOCUST):
        yield f"{FOLDER}/locust/locustfile.py", loadtest.render(plan)
