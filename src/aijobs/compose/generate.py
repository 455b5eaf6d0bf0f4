"""All files of a deployment."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from functools import partial

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
    texts = dict(_texts(plan))
    _check_skipped(spec, list(texts))
    return [File.of(path, make()) for path, make in texts.items() if path not in spec.skip]


def _check_skipped(spec: DeploymentSpec, known: list[str]) -> None:
    for name in sorted(spec.skip - set(known)):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        raise ConfigurationError(f"skip has {name!r}, which is not written anyway; {hint}")


def _texts(plan: Deployment) -> Iterator[tuple[str, Callable[[], str]]]:
    """The paths, each with what makes its text: a project need not have what goes into a file that is left out."""
    spec = plan.spec
    yield "compose.yaml", lambda: document.render(plan)
    yield "Dockerfile", lambda: dockerfile.render(spec, find(spec.root, spec.installer))
    yield ".dockerignore", lambda: dockerignore.render(spec)
    yield ".env.example", lambda: envfile.render(plan)
    yield spec.makefile, lambda: makefile.render(plan)
    yield f"{FOLDER}/README.md", lambda: readme.render(plan)
    yield from _of_services(plan)
    if spec.kubernetes:
        yield from ((path, partial(str, text)) for path, text in kubernetes.manifests(plan))


def _of_services(plan: Deployment) -> Iterator[tuple[str, Callable[[], str]]]:
    """What some services read."""
    if plan.spec.has(ServiceName.PGVECTOR):
        yield VECTOR_SQL, vector_sql
    if plan.spec.has(ServiceName.PROMETHEUS):
        yield f"{FOLDER}/prometheus/prometheus.yml", dashboard.prometheus
    if plan.spec.has(ServiceName.GRAFANA):
        yield f"{FOLDER}/grafana/provisioning/datasources/prometheus.yml", dashboard.datasource
        yield f"{FOLDER}/grafana/provisioning/dashboards/files.yml", dashboard.provider
        yield f"{FOLDER}/grafana/dashboards/jobs.json", lambda: dashboard.dashboard(plan)
    if plan.spec.has(ServiceName.LOCUST):
        yield f"{FOLDER}/locust/locustfile.py", lambda: loadtest.render(plan)
