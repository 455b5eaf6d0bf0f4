"""deploy/README.md: what was written, and how it is used."""

from __future__ import annotations

from collections.abc import Iterator

from aijobs.compose.envfile import secrets
from aijobs.compose.makefile import profiles_of
from aijobs.compose.model import Service
from aijobs.compose.services import Deployment

_START = """\
# Running {project} in containers

The files that this page is about were written by `aijobs compose`, and are yours to change. To write them again, after
the app or its options changed, run `aijobs compose`; it overwrites nothing that you changed. `aijobs compose --check`
shows what it would change, and fails where there is anything: a step for CI.

## Start

Docker with Compose 2.24 or newer, from the folder above this one:

    {make} up

That makes up the passwords that `.env` lacks. Put the app's own keys there as well; `.env.example` tells what else
may be in it. **Keep `.env` out of git.**
"""
_DAILY = """\
## Every day

| Command | What it does |
|---|---|
| `{make} up` | builds the image, starts everything, waits until it is well |
| `{make} restart` | the same for a new version: containers that changed are exchanged |
| `{make} logs S={worker}` | follows the logs of a service, or of all |
| `{make} scale-workers N=5` | runs so many containers of `{worker}`; another class with `S=` |
| `{make} stats` | the workers and what they run; what the containers use |
| `{make} health` | whether every service is there and well; fails where one is not |
| `{make} dead` | the jobs that failed |
| `{make} down` | stops everything; the data stays |
"""
_STOP = """\
## What happens when a worker stops

It takes no more jobs, lets those that run go on for a while, gives back what is left, and ends: all of it within the
`stop_grace_period` in `compose.yaml`. A job that was given back runs again, on another worker or when this one is
back. So deploy whenever you like, and write tasks so that a second start does no harm.

Docker shows a service that is not well as `unhealthy`, but does not restart it; it restarts those that ended.
Kubernetes does both.
"""
_DATA = """\
## Data

What has to outlive containers is in volumes:

| Volume | What is in it |
|---|---|
{volumes}

Back up what you cannot make again. `docker compose down --volumes` deletes all of it.
"""


def render(plan: Deployment) -> str:
    """The file's text, without its header."""
    make = "make" if plan.spec.makefile == "Makefile" else f"make -f {plan.spec.makefile}"
    worker = plan.workers[0].name
    volumes = "\n".join(f"| `{one.name}` | {one.why} |" for one in plan.volumes.values())
    parts = [
        _START.format(project=plan.spec.project, make=make),
        _table(plan, make),
        _DAILY.format(make=make, worker=worker),
        _STOP,
        _DATA.format(volumes=volumes),
        *_passwords(plan),
        *_kubernetes(plan),
    ]
    return "\n".join(parts)


def _table(plan: Deployment, make: str) -> str:
    rows = [f"| `{one.name}` | {_place(one)} | {one.why} |" for one in plan.services]
    asked = [f"`{make} {name}`" for name in profiles_of(plan)]
    optional = f"\nSome start only when they are asked for: {', '.join(asked)}.\n" if asked else ""
    return "\n".join(["## What runs", "", "| Service | Where | |", "|---|---|---|", *rows, optional])


def _place(service: Service) -> str:
    return f"<http://localhost:{service.published.port}>" if service.published else "inside"


def _passwords(plan: Deployment) -> Iterator[str]:
    yield "## Passwords\n"
    yield from (f"- `{name}`: {meaning}" for name, meaning in secrets(plan).items())
    yield (
        "\nPostgres and Grafana take theirs over when their volume is new; to change one later, change it there as "
        "well.\n"
    )


def _kubernetes(plan: Deployment) -> Iterator[str]:
    if plan.spec.kubernetes:
        project = plan.spec.project
        yield (
            "## Kubernetes\n\n"
            "`deploy/kubernetes/base` has the same services by the same rules, but for monitoring and load tests.\n"
            "`deploy/kubernetes/keda` adds that the workers are scaled by how many jobs wait; it needs KEDA in the\n"
            "cluster. Name your image in `base/kustomization.yaml`; then\n\n"
            f"    kubectl create namespace {project}\n"
            f"    kubectl --namespace {project} create secret generic {project}-env --from-env-file=.env\n"
            "    kubectl apply --kustomize deploy/kubernetes/base\n\n"
            "`kubectl` takes quotes in `.env` for a part of the value, unlike Compose: put such a value into the\n"
            "secret by hand.\n"
        )
