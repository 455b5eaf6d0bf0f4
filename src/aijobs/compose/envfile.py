""".env.example: every variable that the deployment reads, with its meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aijobs.compose.model import PLACEHOLDER
from aijobs.compose.services import Deployment
from aijobs.compose.spec import FILES_FOLDER, ServiceName
from aijobs.compose.yaml import comment
from aijobs.settings import PREFIX, Settings

_SECRETS = {
    "REDIS_PASSWORD": "Of the broker and store of the jobs.",
    "POSTGRES_PASSWORD": "Of the app's database, whose user is app.",
    "QDRANT_PASSWORD": "The key to the app's vectors.",
    "FLOWER_PASSWORD": "Of the user admin in Flower.",
    "GRAFANA_PASSWORD": "Of the user admin in Grafana, from its first start on.",
}

#: What each setting of aijobs means. Those that the deployment itself decides are not among them.
MEANINGS = {
    "key_prefix": "Put before every key in the store. API and workers must have the same.",
    "retention_seconds": "How long a finished job is kept.",
    "failed_retention_seconds": "How long a failed job is kept to be read and replayed.",
    "active_retention_seconds": "How long an unfinished job is kept after its last sign of life.",
    "store_timeout_seconds": "How long an operation of the store may take.",
    "progress_interval_seconds": "The least time between two written progress reports of a job.",
    "output_interval_seconds": "The least time between two writes of what a job gives out while it runs.",
    "output_bytes": "About so many bytes of what a job gave out are kept, the newest.",
    "inline_result_bytes": "Results up to this size are part of the job's record.",
    "arguments_bytes": "Arguments up to this size are kept, for a retry.",
    "checkpoint_bytes": "All that a job keeps for its next attempt may be so large.",
    "max_events": "About so many events are kept for each job.",
    "lease_seconds": "How long a worker that gives no sign of life keeps its jobs.",
    "max_deliveries": "How many workers a job may take down with it before it is given up.",
    "cancel_grace_seconds": "How long a cancelled job may go on before its process is ended.",
    "sync_tasks": "What workers with the asyncio pool do with tasks that are no `async def`: threads or refuse.",
    "file_bytes": "An uploaded file may have so many bytes, unless its parameter says otherwise.",
    "upload_bytes": "All of a request with files may have so many bytes.",
    "upload_files": "A request may have so many files.",
    "webhook_secrets": "What webhooks are signed with, the newest first; without any they are off.",
    "webhook_url": "Who is told of the events of every job.",
    "webhook_events": "Of which events.",
    "webhook_queue": "The queue of the tasks that tell webhooks; by default the app's. Workers have to take from it.",
    "webhook_allow_private": "For development: webhooks may go to private addresses, and over plain HTTP.",
    "public_url": "Where clients reach the job routes, such as https://api.example.com/jobs.",
}

_HEAD = (
    "Copy this to .env and fill it in; `make env` does both. .env holds secrets: it belongs in .gitignore and in no "
    "image. All containers of the app get what is in it. A value with a $ in it goes between single quotes."
)


def render(plan: Deployment) -> str:
    """The file's text, without its header."""
    parts = ["\n".join(comment(_HEAD)), *(_section(title, list(lines)) for title, lines in _sections(plan))]
    return "\n\n".join(parts) + "\n"


def secrets(plan: Deployment) -> dict[str, str]:
    """The variables that have to be set, each with its meaning."""
    values = [*plan.environment.values(), *(value for one in plan.services for value in one.environment.values())]
    named = {name for value in values for name in PLACEHOLDER.findall(value)}
    return {name: meaning for name, meaning in _SECRETS.items() if name in named}


def _sections(plan: Deployment) -> Iterator[tuple[str, Iterator[str]]]:
    needed = _variables(dict.fromkeys(secrets(plan), ""), secrets(plan))
    yield "Passwords: letters and digits only, since they stand in addresses.", needed
    yield "The app's own variables, such as keys of models.", iter(())
    yield "Where things are.", _places(plan)
    yield "Settings of aijobs, each with its default.", _settings()


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([*comment(f"---- {title} ----"), *lines])


def _variables(values: Mapping[str, str], meanings: Mapping[str, str]) -> Iterator[str]:
    for name, value in values.items():
        yield from comment(meanings[name])
        yield f"{name}={value}"


def _places(plan: Deployment) -> Iterator[str]:
    yield from _optional(
        "IMAGE_TAG", "latest", "The tag of the app's image, for a registry or to go back to an earlier one."
    )
    yield from _optional(
        "AIJOBS_FILES_URL",
        FILES_FOLDER,
        "Where uploaded files are kept: a folder that API and workers share, or a bucket such as s3://jobs/uploads.",
    )
    for one in plan.services:
        if one.published:
            name, port = one.published.variable, str(one.published.port)
            yield from _optional(f"{name}_BIND", "127.0.0.1", f"The address of this machine where {one.name} listens.")
            yield from _optional(f"{name}_PORT", port, f"The port of this machine where {one.name} listens.")
    if plan.spec.api:
        yield from _optional(
            "FORWARDED_ALLOW_IPS",
            "127.0.0.1",
            "The addresses of the proxies before the API, whose word on who asks, and how, uvicorn takes; with commas "
            "between. For a proxy on this machine that is the gateway of the network outside.",
        )
    if plan.spec.has(ServiceName.LOCUST):
        yield from _optional("LOAD_TASK", "", "The task that a load test submits, by its name in the API.")
        yield from _optional("LOAD_INPUT", "", "What is submitted, as JSON.")


def _settings() -> Iterator[str]:
    for name, meaning in MEANINGS.items():
        field = Settings.model_fields.get(name)
        if field is not None:
            yield from _optional(f"{PREFIX}{name.upper()}", _shown(field.default), meaning)


def _optional(name: str, default: str, meaning: str) -> Iterator[str]:
    yield from comment(meaning)
    yield f"#{name}={default}"


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return "" if default is None else str(default)
