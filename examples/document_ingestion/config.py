"""The app's settings, all from the environment. API and worker must be started with the same ones."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, SecretStr


def _split(value: object) -> object:
    return tuple(filter(str.strip, value.split(os.pathsep))) if isinstance(value, str) else value


def _resolved(path: Path) -> Path:
    return path.expanduser().resolve()


Folder = Annotated[Path, AfterValidator(_resolved)]


class Settings(BaseModel):
    """What can be set, and by which variable. A variable that is empty counts as not set."""

    model_config = ConfigDict(frozen=True, validate_by_name=True)

    #: Broker of the jobs and store of their records.
    redis_url: str = Field("redis://localhost:6379/0", alias="REDIS_URL")
    #: The folders that may be read, separated as in PATH. Without any, every path is refused.
    roots: Annotated[tuple[Folder, ...], BeforeValidator(_split)] = Field((), alias="DOCUMENT_ROOTS")
    #: The file that holds texts and vectors.
    store: Folder = Field(Path("documents.db"), alias="DOCUMENT_STORE", validate_default=True)
    #: A larger file is reported as too large.
    max_bytes: PositiveInt = Field(50_000_000, alias="DOCUMENT_MAX_BYTES")
    #: An OpenAI-compatible endpoint such as https://api.openai.com/v1. Without it, texts are embedded here.
    embeddings_url: str | None = Field(None, alias="EMBEDDINGS_URL")
    #: The model asked for at that endpoint.
    embeddings_model: str = Field("text-embedding-3-small", alias="EMBEDDINGS_MODEL")
    #: Sent to that endpoint, and nowhere else.
    embeddings_api_key: SecretStr | None = Field(None, alias="EMBEDDINGS_API_KEY")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Reads the settings.

        Raises:
            pydantic.ValidationError: a value is invalid; the message names the variable.
        """
        return cls.model_validate({name: value for name, value in environ.items() if value.strip()})
