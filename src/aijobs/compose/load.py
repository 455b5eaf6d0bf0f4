"""Reads the options of a deployment from the team's pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aijobs.compose.spec import DeploymentSpec
from aijobs.errors import ConfigurationError

TABLE = "tool.aijobs.compose"


def load(root: Path, given: Mapping[str, Any]) -> DeploymentSpec:
    """A deployment by what pyproject.toml says, and what was given besides, which comes first.

    Args:
        root: the project's folder.
        given: options by the names that `DeploymentSpec` has for them; those that are None were not given.

    Raises:
        ConfigurationError: a value is wrong, or there is no app; the message says which and what to do.
    """
    if not root.is_dir():
        raise ConfigurationError(f"There is no folder {root}.")
    options = read(root)
    values = {"project": _project_name(root), **options, **{key: one for key, one in given.items() if one is not None}}
    if "app" not in values:
        raise ConfigurationError(
            "Name the Celery app, as in `aijobs compose shop.worker:celery_app`, "
            f"or app in [{TABLE}] of pyproject.toml."
        )
    return DeploymentSpec.of(root=root.resolve(), **values)


def read(root: Path) -> dict[str, Any]:
    """The options in pyproject.toml, by the names that `DeploymentSpec` has for them.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    options = _pyproject(root).get("tool", {}).get("aijobs", {}).get("compose", {})
    if not isinstance(options, dict):
        raise ConfigurationError(f"[{TABLE}] in pyproject.toml must be a table.")
    named = {"services" if key == "with" else key.replace("-", "_"): value for key, value in options.items()}
    if "root" in named:
        raise ConfigurationError(f"[{TABLE}] has root, which is no option: the files go where pyproject.toml is.")
    return named


def _pyproject(root: Path) -> dict[str, Any]:
    path = root / "pyproject.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.") from error


def _project_name(root: Path) -> str:
    named = _pyproject(root).get("project", {}).get("name") or root.resolve().name
    return re.sub(r"[^a-z0-9]+", "-", str(named).lower()).strip("-0123456789")[:40].strip("-") or "app"
