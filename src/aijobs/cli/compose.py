"""`aijobs compose`: the files that run the app in containers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aijobs.cli._text import printable

if TYPE_CHECKING:
    from aijobs.cli import Subparsers
    from aijobs.compose import DeploymentSpec, File

#: Exit status of `--check` when files are not what would be written.
STALE = 1

_DESCRIPTION = (
    "Writes Dockerfile, compose.yaml, .env.example, a Makefile and what the services read, from the Celery app and "
    "these options. The options may stand in [tool.aijobs.compose] of pyproject.toml as well, where `with` is a "
    "list and `queues` a table. What you changed by hand is not overwritten."
)
#: Options that a spec takes as they are, each with its metavariable and help.
_TEXTS = {
    "api": ("MODULE:APP", "the ASGI app, e.g. shop.main:app"),
    "project": ("NAME", "what containers, networks and volumes are called (default: the project's name)"),
    "python": ("VERSION", "of the image: 3.11, 3.12, 3.13 or 3.14 (default: 3.13)"),
    "base": ("IMAGE", "the image to build upon (default: the slim one of this Python, or CUDA's with --gpu)"),
    "installer": ("NAME", "requirements, pyproject or uv (default: by what the folder holds)"),
    "system-packages": ("NAMES", "of Debian or Ubuntu, which the app needs when it runs, with commas between"),
    "makefile": ("FILE", "what the Makefile is called, where the project has its own (default: Makefile)"),
}
_NUMBERS = {
    "workers": "containers of each class of workers (default: 2)",
    "concurrency": "jobs at a time in each (default: 2)",
    "port": "of this machine, for the API (default: 8000)",
}


def register(subparsers: Subparsers) -> None:
    """Adds the command."""
    parser = subparsers.add_parser("compose", help="write what runs the app in containers", description=_DESCRIPTION)
    parser.add_argument("app", nargs="?", metavar="MODULE:APP", help="the Celery app, e.g. shop.worker:celery_app")
    for name, (metavar, text) in _TEXTS.items():
        parser.add_argument(f"--{name}", metavar=metavar, help=text)
    for name, text in _NUMBERS.items():
        parser.add_argument(f"--{name}", type=int, metavar="N", help=text)
    parser.add_argument(
        "--with",
        dest="services",
        metavar="NAMES",
        help="with commas between: beat, redis, valkey, postgres, pgvector, chroma, qdrant, flower, locust, "
        "prometheus, grafana",
    )
    parser.add_argument("--gpu", action="store_true", default=None, help="workers need a GPU")
    parser.add_argument(
        "--kubernetes", action="store_true", default=None, help="write manifests for Kubernetes as well"
    )
    parser.add_argument("--skip", metavar="FILES", help="leave these out, with commas between")
    parser.add_argument(
        "--directory", type=Path, default=Path(), metavar="PATH", help="the project's folder (default: .)"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; show what would change, and fail if so")
    parser.add_argument("--force", action="store_true", help="overwrite what was changed by hand")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from aijobs.compose import generate, load

    given = {name: getattr(arguments, name) for name in _options()}
    spec = load(arguments.directory, given)
    files = generate(spec)
    return _check(spec, files) if arguments.check else _write(spec, files, arguments)


def _options() -> tuple[str, ...]:
    names = ("app", *_TEXTS, *_NUMBERS, "services", "gpu", "kubernetes", "skip")
    return tuple(name.replace("-", "_") for name in names)


def _check(spec: DeploymentSpec, files: list[File]) -> int:
    from aijobs.compose import differences

    found = differences(spec.root, files)
    for diff in found:
        print(diff, end="")
    if not found:
        print(f"The {len(files)} files are up to date.")
    return STALE if found else 0


def _write(spec: DeploymentSpec, files: list[File], arguments: argparse.Namespace) -> int:
    from aijobs.compose import write
    from aijobs.compose.files import leftovers
    from aijobs.compose.generate import FOLDER
    from aijobs.compose.load import read

    for path, how in write(spec.root, files, force=arguments.force):
        print(printable(f"{how:>24}  {path}"))
    for path in leftovers(spec.root, files, FOLDER):
        print(printable(f"{'no longer needed':>24}  {path}"))
    if not read(spec.root):
        print("\nPut the options into pyproject.toml, so that `aijobs compose --check` knows them:\n")
        print("\n".join(_table({name: getattr(arguments, name) for name in _options()})))
    start = "make" if spec.makefile == "Makefile" else f"make -f {spec.makefile}"
    print(f"\nStart it with `{start} up`; {FOLDER}/README.md says the rest.")
    return 0


def _table(given: dict[str, Any]) -> list[str]:
    """Options as pyproject.toml has them."""
    import json

    rows = ["[tool.aijobs.compose]"]
    for name, value in given.items():
        if value is not None:
            is_list = name in {"services", "skip", "system_packages"}
            shown = [one.strip() for one in value.split(",")] if is_list else value
            written = "with" if name == "services" else name.replace("_", "-")
            rows.append(f"{written} = {json.dumps(shown)}")
    return rows
