"""What `module:attribute` names in the user's code, or an error that says what to name instead."""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from aijobs.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Kind:
    """What a target is to be."""

    name: str
    #: What may be given.
    accepts: Callable[[object], bool]
    #: What to look for in a module.
    is_typical: Callable[[object], bool]
    #: The names to look for when the command does not say one.
    usual: tuple[str, ...]


def answer(examine: Callable[..., Any]) -> None:
    """Answers one question, which is the first argument of this process; what is imported for it cannot be undone.

    Args:
        examine: takes the members of the question, which is JSON, and gives a dataclass.

    The answer is one line of JSON on standard output: the fields of that, or `problem`.
    """
    # What the user's modules print must not get into the answer.
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        try:
            found = asdict(examine(**json.loads(sys.argv[1])))
        except ConfigurationError as error:
            found = {"problem": str(error)}
        print(json.dumps(found), file=out)


def resolve(target: str, kind: Kind) -> tuple[str, object]:
    """Imports a target.

    Args:
        target: `module:attribute`; without an attribute, the module's only one of this kind.
        kind: what it is to be.

    Returns:
        The target with its attribute, and what it is.

    Raises:
        ConfigurationError: a module or an attribute is missing or not what it should be; the message says what to do.
    """
    module_name, _, attribute = target.partition(":")
    module = _import(module_name, kind)
    known = [name for name, value in vars(module).items() if kind.is_typical(value)]
    if not attribute:
        attribute = next((name for name in (*kind.usual, *known) if name in known), "")
        if not attribute:
            raise ConfigurationError(f"{module_name} holds no {kind.name}: give one as {module_name}:NAME.")
    try:
        value = functools.reduce(getattr, attribute.split("."), module)
    except AttributeError:
        raise ConfigurationError(f"{module_name} has no {attribute!r}. {_hint(module_name, known, kind)}") from None
    if not kind.accepts(value):
        raise ConfigurationError(
            f"{target} is not a {kind.name} but a {type(value).__name__}. {_hint(module_name, known, kind)}"
        )
    return f"{module_name}:{attribute}", value


def _hint(module: str, known: Sequence[str], kind: Kind) -> str:
    if known:
        return f"Did you mean {' or '.join(f'{module}:{name}' for name in known)}?"
    return f"The module holds no {kind.name}: name the one where it is made."


def _import(name: str, kind: Kind) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        example = name.removesuffix(".py").strip("./").replace("/", ".") or "package.module"
        raise ConfigurationError(f"{name!r} is no module: give the {kind.name} with dots, as {example}:NAME.")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise ConfigurationError(_no_module(error.name)) from error
        raise ConfigurationError(
            f"{name} cannot be imported: {describe(error)}: install it for {sys.executable}."
        ) from error
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"{name} cannot be imported: {describe(error)}.") from error


def _no_module(name: str) -> str:
    package, _, last = name.rpartition(".")
    if package:
        return f"There is no {last!r} in the package {package!r}: correct the name."
    return f"There is no module {name!r}: run the command in the folder where it is (this is {Path.cwd()})."


def describe(error: BaseException) -> str:
    """An error in one line, with the last place in the user's own files."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(Path(frame.filename))]
    where = f" ({Path(own[-1].filename).relative_to(Path.cwd())}, line {own[-1].lineno})" if own else ""
    return " ".join(f"{type(error).__name__}: {error}".split()) + where


def _is_own(file: Path) -> bool:
    return file.is_relative_to(Path.cwd()) and "site-packages" not in file.parts


def _is_celery(value: object) -> bool:
    from celery import Celery

    return isinstance(value, Celery)


def _is_starlette(value: object) -> bool:
    return any(base.__name__ == "Starlette" for base in type(value).__mro__)


#: A Celery app.
CELERY_APP = Kind("Celery app", _is_celery, _is_celery, ("app", "celery", "celery_app"))
#: An ASGI application.
ASGI_APP = Kind("ASGI app", callable, _is_starlette, ("app", "api"))
