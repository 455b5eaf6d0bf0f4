"""What a service of a deployment is, whichever system runs it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

#: Where a value of `Service.environment` has a variable of `.env`, whose name is the group.
PLACEHOLDER = re.compile(r"\$\{([A-Z_]+)\}")
#: The same for a variable that may be missing; the group is what stands for it then.
OPTIONAL = re.compile(r"\$\{[A-Z_]+:-([^}]*)\}")
#: Room in each of a container's temporary folders, all of them memory; mebibytes.
SCRATCH_MEMORY = 256


class Profile(StrEnum):
    """Groups of services that run only when they are asked for."""

    MONITORING = "monitoring"
    LOAD = "load"


@dataclass(frozen=True, slots=True)
class Probe:
    """A command that succeeds while a service is well; times are seconds."""

    command: tuple[str, ...]
    #: The same for whether it lives, where that is not the same; who does not is restarted.
    live: tuple[str, ...] = ()
    interval: int = 10
    timeout: int = 5
    retries: int = 3
    #: For so long after the start, failures do not count.
    start: int = 20


@dataclass(frozen=True, slots=True)
class Volume:
    """A folder that outlives containers."""

    name: str
    path: str
    #: What it is for.
    why: str
    #: What it needs where room is asked for beforehand.
    size: str = "5Gi"
    #: Whether several containers use it, perhaps on several machines.
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or folder of the project that a container reads."""

    source: str
    path: str


@dataclass(frozen=True, slots=True)
class User:
    """Who runs in a container: the name that the image knows, and the numbers behind it."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Published:
    """A port of the machine."""

    port: int
    inside: int
    #: Prefix of the variables that choose another address or port.
    variable: str


@dataclass(frozen=True, slots=True)
class Service:
    """One service. In values of `environment`, `${NAME}` and `${NAME:-default}` stand for variables of `.env`."""

    name: str
    #: A few words on it, for people.
    why: str
    probe: Probe
    #: None is the image of the app.
    image: str | None = None
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Memory, mebibytes.
    memory: int = 256
    #: Of it for what its processes share, mebibytes, where the engine's 64 are too few.
    shared_memory: int | None = None
    #: The most processes and threads.
    pids: int = 256
    replicas: int = 1
    #: How long it has to end, seconds.
    grace: int = 30
    user: User | None = None
    volumes: tuple[Volume, ...] = ()
    binds: tuple[Bind, ...] = ()
    #: Folders in memory.
    scratch: tuple[str, ...] = ()
    read_only: bool = False
    #: Where other services reach it.
    port: int | None = None
    published: Published | None = None
    #: Whether it needs the world outside, or only its neighbours.
    outside: bool = False
    needs: tuple[str, ...] = ()
    profile: Profile | None = None
    gpu: bool = False
    #: Jobs at a time.
    concurrency: int = 1
    #: The queues that it takes jobs from.
    queues: tuple[str, ...] = ()
    #: Why a choice is as it is, by the name that the choice has in compose.yaml.
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_app(self) -> bool:
        """Whether it runs the team's own code."""
        return self.image is None
