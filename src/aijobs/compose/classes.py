"""Which workers serve which queues."""

from __future__ import annotations

import re

from aijobs.compose.inspection import Facts
from aijobs.compose.spec import DeploymentSpec, WorkerClass
from aijobs.errors import ConfigurationError

#: The queue whose workers get the GPUs, where there is one of this name.
GPU_QUEUE = "gpu"


def worker_classes(spec: DeploymentSpec, facts: Facts) -> dict[str, WorkerClass]:
    """The classes of workers by the names of their services; each has its queues.

    Raises:
        ConfigurationError: a queue of the app would have no workers, or cannot be served.
    """
    return _as_given(spec, facts) if spec.queues else _of_the_app(spec, facts)


def _as_given(spec: DeploymentSpec, facts: Facts) -> dict[str, WorkerClass]:
    given = {
        _service_of(name): kind.model_copy(update={"queues": kind.queues or (name,)})
        for name, kind in spec.queues.items()
    }
    served = {queue for kind in given.values() for queue in kind.queues}
    for queue in facts.queues:
        if queue.tasks and queue.name not in served:
            raise ConfigurationError(
                f"No workers take jobs from the queue {queue.name!r}, where {', '.join(queue.tasks)} would wait for "
                "ever: add it to one of the classes in queues."
            )
    return given


def _of_the_app(spec: DeploymentSpec, facts: Facts) -> dict[str, WorkerClass]:
    names = [_safe(queue.name) for queue in facts.queues]
    has_gpu_queue = GPU_QUEUE in names
    found: dict[str, WorkerClass] = {}
    for position, queue in enumerate(names):
        service = "worker" if position == 0 else _service_of(_slug(queue))
        if service in found:
            raise ConfigurationError(
                f"The queues {', '.join(names)} make two services named {service}: name the classes of workers in "
                "[tool.aijobs.compose.queues]."
            )
        gpu = spec.gpu and (queue == GPU_QUEUE or not has_gpu_queue)
        found[service] = WorkerClass(queues=(queue,), gpu=gpu)
    return found


def _service_of(name: str) -> str:
    return name if name == "worker" else f"worker-{name}"


def _slug(queue: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", queue.lower()).strip("-")[:32].strip("-") or "other"


def _safe(queue: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}", queue):
        raise ConfigurationError(
            f"The queue {queue!r} of the app cannot be written into commands: a queue takes 1 to 63 letters, digits "
            "and the characters _ . -"
        )
    return queue
