"""The `AIJOBS_*` settings, read from the environment and checked."""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, StringConstraints, ValidationError

from aijobs.errors import ConfigurationError

logger = logging.getLogger(__name__)

PREFIX = "AIJOBS_"
#: What else has the prefix: read by `aijobs.testing`.
_OF_TESTS = frozenset({"test_redis_url"})

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _split(value: object) -> object:
    return tuple(re.split(r"[\s,]+", value.strip(" \t\n,"))) if isinstance(value, str) else value


class Settings(BaseModel):
    """What can be set. Each field is read from `AIJOBS_` plus its name in capitals; times are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Where the records live; by default the result backend's URL or the broker's, whichever is Redis first.
    store_url: str | None = None
    #: Put before every key in the store. Worker and API must have the same.
    key_prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = "aijobs"
    #: How long a finished job is kept.
    retention_seconds: Seconds = 86_400
    #: How long a failed job, a dead letter, is kept to be read and replayed.
    failed_retention_seconds: Seconds = 7 * 86_400
    #: How long an unfinished job is kept after its last sign of life (or after it is due, when it is delayed).
    active_retention_seconds: Seconds = 7 * 86_400
    #: How long a store operation may take; a second attempt on a broken connection comes on top.
    store_timeout_seconds: Annotated[float, Field(ge=0.05, le=30)] = 0.4
    #: The least time between two written progress reports of a job.
    progress_interval_seconds: Annotated[float, Field(ge=0.01, le=1)] = 0.1
    #: The least time between two writes of what a job gives out while it runs.
    output_interval_seconds: Annotated[float, Field(ge=0.01, le=1)] = 0.05
    #: About so many bytes of what a job gave out are kept, the newest.
    output_bytes: Annotated[int, Field(ge=65_536, le=67_108_864)] = 1_048_576
    #: Results up to this many bytes of JSON are part of the record; larger ones have a key and a route of their own.
    inline_result_bytes: Annotated[int, Field(ge=0, le=1_048_576)] = 65_536
    #: Arguments up to this many bytes of JSON are kept in the record, for a retry.
    arguments_bytes: Annotated[int, Field(ge=0, le=16_777_216)] = 262_144
    #: What a job's attempts keep for those after them may have so many bytes, names and values together.
    checkpoint_bytes: Annotated[int, Field(ge=1_024, le=268_435_456)] = 16_777_216
    #: About so many events are kept per job.
    max_events: Annotated[int, Field(ge=10, le=1_000_000)] = 1_000
    #: How long a worker that gives no sign of life holds what it fetched; then it counts as gone.
    lease_seconds: Annotated[float, Field(ge=5, le=3_600)] = 30.0
    #: How many workers a job may take down with it before it is given up as poison.
    max_deliveries: Annotated[int, Field(ge=1, le=100)] = 3
    #: What a worker with the asyncio pool does with tasks that are no coroutine functions.
    sync_tasks: Literal["threads", "refuse"] = "threads"
    #: How long a job that was told to stop may go on until its process is ended, and as long again until it is killed.
    cancel_grace_seconds: Annotated[float, Field(ge=0.1, le=3_600)] = 5.0
    #: Where uploaded files are kept: a folder, or a URL of fsspec; by default a folder of the user on this machine.
    files_url: str | None = None
    #: An uploaded file may have so many bytes, unless its parameter says otherwise.
    file_bytes: Annotated[int, Field(ge=1, le=1_099_511_627_776)] = 52_428_800
    #: All of a request with files may have so many bytes.
    upload_bytes: Annotated[int, Field(ge=1, le=1_099_511_627_776)] = 545_259_520
    #: A request may have so many files.
    upload_files: Annotated[int, Field(ge=1, le=1_000)] = 10
    #: What webhooks are signed with, the newest first; several, with spaces or commas between, while they are rotated.
    #: Without any, webhooks are off.
    webhook_secrets: Annotated[tuple[SecretStr, ...], BeforeValidator(_split)] = ()
    #: Who is told of the events of every job; hidden, since its path or query may hold a secret.
    webhook_url: SecretStr | None = None
    #: Of which events: `job.status`, `job.attempt`, `job.completed`.
    webhook_events: Annotated[tuple[str, ...], BeforeValidator(_split)] = ("job.completed",)
    #: The queue of the tasks that tell webhooks; by default the app's.
    webhook_queue: str | None = None
    #: For development: webhooks may go to private addresses, and over plain HTTP.
    webhook_allow_private: bool = False
    #: Where clients reach the job routes, such as `https://api.example.com/jobs`; webhooks link to jobs below it.
    public_url: str | None = None
    #: Where a worker or a scheduler leaves a sign of life every second, for `aijobs health`; one for each container.
    health_folder: str | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Reads the settings.

        Args:
            environ: read instead of `os.environ`.

        Raises:
            ConfigurationError: a value is invalid; the message names the variable and what it takes.
        """
        given = {
            name.removeprefix(PREFIX).lower(): value
            for name, value in (os.environ if environ is None else environ).items()
            if name.startswith(PREFIX) and value.strip()
        }
        for name in sorted(given.keys() - cls.model_fields.keys() - _OF_TESTS):
            logger.warning("%s", _unknown(name, cls.model_fields))
        try:
            return cls.model_validate({name: given[name] for name in given.keys() & cls.model_fields.keys()})
        except ValidationError as error:
            raise ConfigurationError("; ".join(_explain(error))) from None


@cache
def current() -> Settings:
    """The settings of this process, read once."""
    return Settings.from_env()


def _unknown(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {PREFIX}{close[0].upper()}?" if close else ""
    return f"{PREFIX}{name.upper()} is not a setting of aijobs and is ignored.{hint}"


def _explain(error: ValidationError) -> list[str]:
    return [f"{PREFIX}{str(one['loc'][0]).upper()} is wrong: {one['msg']}" for one in error.errors(include_input=False)]
