"""What clients may send beside a task's own fields: an app opens each such field by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    StringConstraints,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
    field_validator,
)

from aijobs.errors import ConfigurationError
from aijobs.http.exposure import ExposedTask
from aijobs.job import WEBHOOK_EVENTS, EventType, Webhook

#: 30 days.
_LONGEST_SECONDS = 2_592_000

_Key = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_WebhookEvent = Literal[EventType.STATUS, EventType.ATTEMPT, EventType.COMPLETED]
_Value = Annotated[str, StringConstraints(max_length=512)]

Metadata = Annotated[
    dict[_Key, _Value], Field(max_length=16, description="Kept with the job and shown in it, for your own use.")
]

#: The fields that `client_fields=` opens, with their types.
FIELDS: Mapping[str, Any] = {
    "metadata": Metadata,
    "priority": Annotated[
        int, Field(ge=0, le=9, description="Which of the waiting jobs goes first; over Redis 0 goes before 9.")
    ],
    "countdown": Annotated[
        float, Field(ge=0, le=_LONGEST_SECONDS, description="The job is not started before so many seconds are over.")
    ],
    "expires": Annotated[
        float, Field(gt=0, le=_LONGEST_SECONDS, description="A job not started within so many seconds is revoked.")
    ],
}
#: Those that have an argument of their own, which says more.
_OPENED_ELSEWHERE = {"queue": "client_queues=[…] with the names of the queues", "webhook": "webhooks=True"}


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a client wants of its job, beside what its task is to do."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    webhook: Webhook | None = None
    #: Arguments of Celery's `apply_async`.
    options: Mapping[str, Any] = field(default_factory=dict)
    #: All of it as JSON values, to compare with what comes under the same idempotency key.
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)


#: Nothing in particular.
EMPTY = Envelope()


@dataclass(frozen=True, slots=True)
class Sent:
    """A valid request body, taken apart."""

    body: BaseModel | None
    envelope: Envelope = EMPTY


class ClientFields:
    """The fields that an app has opened.

    Args:
        names: out of `FIELDS`.
        queues: that clients may choose from; opens `queue`.
        check_webhook: raises a `ValueError` for an address that is not allowed; opens `webhook`.

    Raises:
        ConfigurationError: a name is unknown.
    """

    def __init__(
        self,
        names: Iterable[str] = (),
        queues: Sequence[str] = (),
        check_webhook: Callable[[str], None] | None = None,
    ) -> None:
        self._types = {name: _type_of(name) for name in _names(names, "client_fields")}
        if queues:
            described = Field(description="Which queue the job waits in.")
            self._types["queue"] = Annotated[Literal[*_names(queues, "client_queues")], described]
        if check_webhook is not None:
            self._types["webhook"] = _webhook_type(check_webhook)
        fields: dict[str, Any] = {name: (one, None) for name, one in self._types.items()}
        self._model = create_model("ClientFields", __base__=_Opened, **fields)

    def beside(self, task: ExposedTask) -> Any:
        """The type of a request body with a task's own fields and these; its values are `Sent`.

        Raises:
            ConfigurationError: the body has a field of the same name, or no fields at all.
        """
        if not self._types:
            return task.body.model
        self._check_room(task)
        fields: dict[str, Any] = {
            f"client_field_{name}": (one, Field(default_factory=_left_out, alias=name))
            for name, one in self._types.items()
        }
        model = task.body.model
        documented = create_model(
            f"{task.title}Submission", __base__=model, __module__=task.module, __doc__=model.__doc__, **fields
        )

        def validate(body: Any, validate_own: ValidatorFunctionWrapHandler) -> Sent:
            if not isinstance(body, dict):
                return Sent(validate_own(body))
            given, own = self.split(body)
            is_empty = not own and not task.body.required
            return Sent(None if is_empty else validate_own(own), self.read(given))

        return Annotated[model, WrapValidator(validate, json_schema_input_type=documented)]

    def split(self, body: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The members of a body that are client fields, and the others."""
        given = {name: body[name] for name in self._types if name in body}
        return given, {name: value for name, value in body.items() if name not in given}

    def read(self, given: Mapping[str, Any]) -> Envelope:
        """What a client wants.

        Args:
            given: the client fields that it sent.

        Raises:
            pydantic.ValidationError: a value does not fit.
        """
        content = self._model.model_validate(given).model_dump(mode="json", exclude_unset=True)
        options = {name: value for name, value in content.items() if name not in ("metadata", "webhook")}
        webhook = content.get("webhook")
        return Envelope(content.get("metadata", {}), None if webhook is None else Webhook(**webhook), options, content)

    def _check_room(self, task: ExposedTask) -> None:
        model = task.body.model
        if issubclass(model, RootModel):
            raise ConfigurationError(
                f"Task {task.name!r} takes a whole body without named fields, so it has no place for client fields. "
                "Give it a model with named fields, or offer it by a router that opens no client fields."
            )
        schema = model.model_json_schema()
        own = schema.get("$defs", {}).get(schema.get("$ref", "").rpartition("/")[2], schema)
        for name in self._types.keys() & own.get("properties", {}).keys():
            raise ConfigurationError(
                f"Task {task.name!r} has a field {name!r} of its own, and job_router() opens a client field {name!r}. "
                "Rename the task's, or do not open the other."
            )


class _Opened(BaseModel):
    """The client fields of one request."""

    model_config = ConfigDict(allow_inf_nan=False)

    @field_validator("expires", check_fields=False)
    @classmethod
    def _comes_after_countdown(cls, expires: float, info: ValidationInfo) -> float:
        if expires <= (info.data.get("countdown") or 0):
            raise ValueError("The job would expire before its countdown is over")
        return expires


def _names(given: Iterable[str], argument: str) -> list[str]:
    if isinstance(given, str):
        raise ConfigurationError(f"job_router({argument}={given!r}): give a list of names.")
    return list(dict.fromkeys(given))


def _type_of(name: str) -> Any:
    if name in FIELDS:
        return FIELDS[name]
    if name in _OPENED_ELSEWHERE:
        raise ConfigurationError(f"job_router(client_fields=…): {name!r} is opened by {_OPENED_ELSEWHERE[name]}.")
    close = difflib.get_close_matches(name, FIELDS, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(FIELDS)}."
    raise ConfigurationError(f"job_router(client_fields=…): there is no client field {name!r}. {hint}")


class _JobWebhook(BaseModel):
    """Who is told of a job's events, and of which."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(description="An https address.", examples=["https://example.com/hooks/jobs"])
    events: list[_WebhookEvent] = Field([EventType.COMPLETED], min_length=1, max_length=len(WEBHOOK_EVENTS))


def _webhook_type(check: Callable[[str], None]) -> Any:
    def checked(webhook: _JobWebhook) -> _JobWebhook:
        check(webhook.url)
        return webhook

    return Annotated[_JobWebhook, AfterValidator(checked), Field(description="Who is told of the job's events.")]


def _left_out() -> None:
    return None
