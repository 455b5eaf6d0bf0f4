"""The whole app at work: ingests real documents as a job, watches it live, and asks about what it read.

python -m document_ingestion.demo [PATH ...] [--ask QUESTION]
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx
from rich.console import Console

from aijobs.embedded import EmbeddedServerError, start_server
from document_ingestion.demo_client import DemoClient
from document_ingestion.demo_documents import write_default_documents
from document_ingestion.demo_processes import DemoError, Service, api, environment, worker
from document_ingestion.documents import SUFFIXES, find_documents

#: What is asked about the default documents.
QUESTIONS = ("What is a lambda expression?", "Which library is capable of splitting and merging PDF files?")
#: How long one request may take, in seconds; the first one waits until the API has started.
REQUEST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Task:
    """What the demo is to do."""

    paths: Sequence[Path]
    questions: Sequence[str]

    @property
    def roots(self) -> list[Path]:
        """The folders that the app has to be allowed to read."""
        return [path if path.is_dir() else path.parent for path in self.paths]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo and returns its exit status: 0, 1 when something did not work, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)
    try:
        with ExitStack() as stack:
            run(_task(options, stack, console), stack, console)
    except (DemoError, EmbeddedServerError) as error:
        console.print(f"\n{error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped; nothing is left running.")
        return 130
    return 0


def run(task: Task, stack: ExitStack, console: Console) -> None:
    """Starts the app, ingests and asks.

    Args:
        task: what to ingest and to ask.
        stack: whatever is started ends with it.
        console: where to print.

    Raises:
        DemoError: something did not work; the message says what.
        EmbeddedServerError: Valkey does not start.
    """
    console.print("Starting Valkey, a Celery worker and the API …")
    folder = _folder(stack)
    server = stack.enter_context(start_server(use_environment=False))
    settings = {
        "REDIS_URL": server.url,
        "DOCUMENT_ROOTS": os.pathsep.join(map(str, task.roots)),
        "DOCUMENT_STORE": str(folder / "documents.db"),
        "TMPDIR": str(folder),
    }
    services, url = _start_app(environment(settings), folder, stack)
    console.print(f"  {url}/docs")
    client = stack.enter_context(httpx.Client(base_url=url, timeout=REQUEST_SECONDS))
    demo = DemoClient(client, console, services)
    demo.ingest(task.paths)
    for question in task.questions:
        demo.ask(question)


def _start_app(env: dict[str, str], folder: Path, stack: ExitStack) -> tuple[list[Service], str]:
    working = stack.enter_context(worker(env, folder))
    serving, url = stack.enter_context(api(env, folder))
    return [working, serving], url


def _task(options: argparse.Namespace, stack: ExitStack, console: Console) -> Task:
    questions = [options.ask] if options.ask else []
    if not options.paths:
        folder = _folder(stack)
        console.print(f"Found {write_default_documents(folder)} documents in this Python installation.")
        return Task([folder], questions or QUESTIONS)
    paths = [Path(path).expanduser().resolve() for path in options.paths]
    return Task(paths, questions or [f"What is {_first_name(Task(paths, []))} about?"])


def _first_name(task: Task) -> str:
    """What the first document is called, in words."""
    for path in task.paths:
        if not path.exists():
            raise DemoError(f"There is nothing at {path}.")
        if os.pathsep in str(path):
            raise DemoError(f"{path} has a {os.pathsep!r} in it, which separates the folders in DOCUMENT_ROOTS.")
    documents = find_documents(map(str, task.paths), task.roots)
    if not documents:
        raise DemoError(f"There are no documents there; they would end with {', '.join(sorted(SUFFIXES))}.")
    return " ".join(documents[0].stem.replace("_", " ").replace("-", " ").split())


def _folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="document-ingestion-"))).resolve()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="document_ingestion.demo", description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="*", metavar="PATH", help="a folder or file; by default manuals found here")
    parser.add_argument("--ask", metavar="QUESTION", help="what to ask about the documents")
    return parser


def _exit(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
