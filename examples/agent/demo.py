"""The whole app at work: a page to ask and to watch on, with a provider that costs nothing.

python -m agent.demo [QUESTION] [--once] [--real] [--pool POOL]
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console

from agent.demo_client import ask
from agent.demo_processes import CONCURRENCY, api, provider, worker
from agent.fake_script import Script, Trouble
from aijobs.embedded import EmbeddedServerError, start_server
from document_ingestion.demo_processes import DemoError, Service, environment

#: What is asked when nothing is.
QUESTION = "What happens to a running job when its worker is killed?"
#: The fake provider now and then wants fewer requests, as real ones do.
SCRIPT = Script(token_seconds=0.02, troubles=(Trouble(retry_after=3, start=5, every=14, count=None),))
#: How often to look whether everything still runs, in seconds.
LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Demo:
    """What has been started, and where to print."""

    env: Mapping[str, str]
    folder: Path
    pool: str
    #: All but the worker.
    services: Sequence[Service]
    url: str
    console: Console

    def ask_once(self, question: str) -> None:
        """Has a worker answer one question, here in the terminal.

        Raises:
            DemoError: it was not answered, or a process ended.
        """
        with worker(self.env, self.folder, self.pool) as working:
            ask(self.url, question, self.console, [*self.services, working])

    def serve(self) -> None:
        """Keeps a worker running until Ctrl-C: one that ends is replaced.

        Raises:
            DemoError: another process ended.
        """
        self.console.print(f"\n  [bold]{self.url}/[/]\n\nAsk there. Ctrl-C stops everything.\n")
        while True:
            with worker(self.env, self.folder, self.pool) as working:
                pid = working.process.pid
                self.console.print(f"A worker runs. To see a job survive it: kill -9 {pid}")
                while working.process.poll() is None:
                    time.sleep(LOOK_SECONDS)
                    for service in self.services:
                        service.check()
            self.console.print(f"The worker {pid} has ended; another one starts.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo and returns its exit status: 0, 1 when something did not work, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)
    try:
        with ExitStack() as stack:
            demo = start(options.pool, stack, console, real=options.real)
            if options.once:
                demo.ask_once(options.question)
            else:
                demo.serve()
    except (DemoError, EmbeddedServerError) as error:
        console.print(f"\n{error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped; nothing is left running.")
        return 130
    return 0


def start(pool: str, stack: ExitStack, console: Console, *, real: bool = False) -> Demo:
    """Starts everything but the worker.

    Args:
        pool: Celery's pool.
        stack: whatever is started ends with it.
        console: where to print.
        real: ask the provider that the environment names, which may cost money.

    Raises:
        EmbeddedServerError: Valkey does not start.
    """
    console.print("Starting Valkey, a provider, a Celery worker and the API …")
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agent-"))).resolve()
    server = stack.enter_context(start_server(use_environment=False))
    # The shortest lease there is, so that a killed worker's job goes on soon.
    settings = {"REDIS_URL": server.url, "TMPDIR": str(folder), "AIJOBS_LEASE_SECONDS": "5"}
    services = []
    if not real:
        service, url = stack.enter_context(provider(folder, SCRIPT))
        services.append(service)
        settings |= {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "", "OPENAI_MODEL": "fake"}
    env = environment(settings)
    service, url = stack.enter_context(api(env, folder))
    return Demo(env, folder, pool, [*services, service], url, console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agent.demo", description=__doc__.partition("\n")[0])
    parser.add_argument("question", nargs="?", default=QUESTION, metavar="QUESTION", help="what --once asks")
    parser.add_argument("--once", action="store_true", help="answer one question here, then stop")
    parser.add_argument("--real", action="store_true", help="ask the provider that OPENAI_BASE_URL and _API_KEY name")
    parser.add_argument("--pool", choices=sorted(CONCURRENCY), default="asyncio", help="Celery's pool")
    return parser


def _exit(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
