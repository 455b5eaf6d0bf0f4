"""The app's settings, all from the environment. API and worker must be started with the same ones."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, DirectoryPath, Field, PositiveFloat, SecretStr

#: The documentation of this project: notes that are there wherever the example is.
_DOCS = Path(__file__).parents[2] / "docs"


def _sendable(key: SecretStr) -> SecretStr:
    value = key.get_secret_value()
    if not (value.isascii() and value.isprintable()):
        raise ValueError("has characters that no key has, such as a line break")
    return key


def _plain_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("begins with neither http:// nor https://")
    if "@" in url.partition("//")[2].partition("/")[0]:
        raise ValueError("has a user in it: a key belongs into OPENAI_API_KEY")
    return url.rstrip("/")


class Settings(BaseModel):
    """What can be set, and by which variable. A variable that is empty counts as not set."""

    # What was given is not repeated in an error: it may be the key.
    model_config = ConfigDict(frozen=True, validate_by_name=True, hide_input_in_errors=True)

    #: Broker of the jobs and store of their records.
    redis_url: str = Field("redis://localhost:6379/0", alias="REDIS_URL")
    #: Any endpoint that speaks the OpenAI API: OpenAI itself, or a server of your own.
    base_url: Annotated[str, AfterValidator(_plain_url)] = Field("https://api.openai.com/v1", alias="OPENAI_BASE_URL")
    #: Sent to that endpoint, and nowhere else.
    api_key: Annotated[SecretStr, AfterValidator(_sendable)] | None = Field(None, alias="OPENAI_API_KEY")
    #: The model asked for there. It has to be able to call tools.
    model: str = Field("gpt-4o-mini", alias="OPENAI_MODEL")
    #: The longest silence of that endpoint, in seconds.
    timeout_seconds: PositiveFloat = Field(60.0, alias="OPENAI_TIMEOUT_SECONDS")
    #: The folder of Markdown files that the agent looks things up in.
    notes: DirectoryPath = Field(_DOCS, alias="AGENT_NOTES")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Reads the settings.

        Raises:
            pydantic.ValidationError: a value is invalid; the message names the variable.
        """
        return cls.model_validate({name: value for name, value in environ.items() if value.strip()})
