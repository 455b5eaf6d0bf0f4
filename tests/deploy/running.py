"""The services of a compose.yaml, run by their own commands: from the image, or in this environment."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
import psutil
import yaml

from aijobs.compose.model import OPTIONAL
from tests.deploy import images
from tests.deploy.images import Container
from tests.helpers import wait_until


class Place(Protocol):
    """Where the programs of containers run."""

    @property
    def folder(self) -> str:
        """Where services may write."""

    def command(self, words: Sequence[str], variables: Mapping[str, str]) -> list[str]: ...

    def environ(self, variables: Mapping[str, str]) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class Here:
    """This environment, with the code of the project."""

    root: Path
    folder: str

    def command(self, words: Sequence[str], variables: Mapping[str, str]) -> list[str]:
        program, *rest = words
        return [str(Path(sys.executable).parent / program), *rest]

    def environ(self, variables: Mapping[str, str]) -> Mapping[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.root), **variables}


@dataclass(frozen=True)
class Image:
    """A container's file system."""

    container: Container
    folder: str = "/tmp"

    def command(self, words: Sequence[str], variables: Mapping[str, str]) -> list[str]:
        given = [f"--env={name}={value}" for name, value in variables.items()]
        return images.command("run", *given, self.container.name, "--", *words)

    def environ(self, variables: Mapping[str, str]) -> Mapping[str, str]:
        return images.environ()


@dataclass
class Service:
    """A container of one service, so to speak."""

    name: str
    place: Place
    words: Sequence[str]
    probe: Sequence[str]
    #: How long it may take to stop, seconds.
    grace: float
    variables: Mapping[str, str]
    log: Path
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                self.place.command(self.words, self.variables),
                env=self.place.environ(self.variables),
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def health(self) -> tuple[int, str]:
        """What its health check says."""
        done = subprocess.run(
            self.place.command(self.probe, self.variables),
            env=self.place.environ(self.variables),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def until_ready(self) -> None:
        """Waits until a worker takes jobs; it may be well before."""
        self.until_healthy()
        wait_until(lambda: " ready." in self.log.read_text(), f"{self.name} to be ready")

    def until_healthy(self, *, healthy: bool = True) -> str:
        """Waits until the health check says so; what it says then."""
        said = [""]

        def look() -> bool:
            status, said[0] = self.health()
            assert status in (0, 1), said
            return (status == 0) is healthy

        try:
            wait_until(look, f"{self.name} to be {'well' if healthy else 'unwell'}")
        except AssertionError:
            print(said[0], self.log.read_text()[-4_000:], sep="\n")
            raise
        return said[0]

    @property
    def main(self) -> psutil.Process:
        """What is the first process in a container."""
        assert self._process is not None
        process = psutil.Process(self._process.pid)
        while process.cmdline()[0].startswith("buildah") and (children := process.children()):
            process = children[0]
        return process

    def send(self, number: signal.Signals) -> None:
        """To the first process, as an engine does."""
        self.main.send_signal(number)

    def send_to_all(self, number: signal.Signals) -> None:
        """To all processes."""
        main = self.main
        for process in (main, *main.children(recursive=True)):
            process.send_signal(number)

    def stop(self) -> float:
        """Stops it as an engine does, and fails if that takes longer than it may; the time that it took, seconds."""
        assert self._process is not None
        began = time.monotonic()
        self.send(signal.SIGTERM)
        self._process.wait(self.grace)
        return time.monotonic() - began

    def kill(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        main = self.main
        for process in (main, *main.children(recursive=True)):
            process.kill()
        self._process.wait(30)


@dataclass
class Deployment:
    """The services of a project's compose.yaml, with a server here in the place of theirs."""

    root: Path
    place: Place
    server: str
    folder: Path
    port: int
    services: list[Service] = field(default_factory=list)

    def service(self, kind: str, name: str | None = None, *options: str, **variables: str) -> Service:
        """A further container of a service, not started yet."""
        name = name or kind
        said = yaml.safe_load((self.root / "compose.yaml").read_text())["services"][kind]
        known = {one: self._here(value, name) for one, value in said["environment"].items()}
        words = [self._here(word, name) for word in said["command"]]
        _, *probe = said["healthcheck"]["test"]
        port = ["--port", str(self.port)] if kind == "api" else []
        # Without an engine all are on one host; there each has the name of its container.
        named = [f"--hostname={name}@%h"] if kind == "worker" else []
        service = Service(
            name,
            self.place,
            [*words, *named, *options],
            [*probe, *port],
            float(said["stop_grace_period"].removesuffix("s")),
            known | variables,
            self.folder / f"{name}.log",
        )
        self.services.append(service)
        return service

    def _here(self, value: str, name: str) -> str:
        if "REDIS_PASSWORD" in value:
            return self.server
        value = OPTIONAL.sub(r"\1", value).replace("/tmp/health", f"{self.place.folder}/health-{name}")
        if isinstance(self.place, Here):
            value = value.replace("/data/", f"{self.place.folder}/")
        return value.replace("--port=8000", f"--port={self.port}").replace("--host=0.0.0.0", "--host=127.0.0.1")

    def stop(self) -> None:
        for service in self.services:
            service.kill()

    def submit(self, **arguments: Any) -> str:
        answer = httpx.post(f"{self._url}/ingest", json=arguments, timeout=30)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job_id"])

    def job(self, job_id: str) -> dict[str, Any]:
        answer = httpx.get(f"{self._url}/{job_id}", timeout=30)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def cancel(self, job_id: str) -> None:
        assert httpx.delete(f"{self._url}/{job_id}", timeout=30).status_code in (200, 202)

    def until(self, status: str, *job_ids: str) -> list[dict[str, Any]]:
        """Waits until all of these jobs have a status."""

        def look() -> list[dict[str, Any]] | None:
            jobs = [self.job(job_id) for job_id in job_ids]
            return jobs if all(job["status"] == status for job in jobs) else None

        return wait_until(look, f"{len(job_ids)} jobs to be {status}")

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self.port}/jobs"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
