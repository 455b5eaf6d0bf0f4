"""Uploaded files leave with their jobs: workers look for files whose job has no record, one worker at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice

from aijobs.files.keys import job_of, space_of
from aijobs.runtime import Runtime
from aijobs.worker.arguments import takes_files
from aijobs.worker.periodic import Periodic

logger = logging.getLogger(__name__)

#: A file may be so old before its job has a record: longer than a form may take to arrive.
GRACE_SECONDS = 3_600.0

_AT_ONCE = 500


def file_sweeper(runtime: Runtime) -> Periodic | None:
    """What sweeps in a worker; None when no task of its app takes files, and no file store is set."""
    if runtime.settings.files_url is None and not any(map(takes_files, runtime.app.tasks.values())):
        return None
    files = runtime.files
    files.prepare()
    logger.info("aijobs keeps uploaded files in %s", files.url)
    return Periodic(
        "aijobs-files", files.sweep_seconds, lambda: sweep(runtime), "Files of jobs that are gone are removed later"
    )


def sweep(runtime: Runtime, grace: float = GRACE_SECONDS) -> int:
    """Removes the files of jobs that have no record any more, when it is time for that; tells how many.

    Args:
        runtime: whose store has the records, and only whose files are looked at.
        grace: a file younger than that stays, seconds.

    Raises:
        StoreUnavailable: the job store does not answer; the files that were not asked about yet stay.
        OSError: the file store does not work.
    """
    store, files = runtime.store, runtime.files
    # A little less than the interval, since the next one must not find that it comes too early.
    if not store.run(store.take_turn("files", 0.9 * files.sweep_seconds)):
        return 0
    files.clear_unfinished(grace)
    # Asked anew each time: a store that has lost its records has another secret, so that its files are left alone.
    space = space_of(store.run(store.secret()))
    old = (file.key for file in files.list(space) if file.age_seconds > grace)
    return sum(_remove_orphans(runtime, keys) for keys in _pages(old))


def _remove_orphans(runtime: Runtime, keys: Sequence[str]) -> int:
    store = runtime.store
    known = store.run(store.existing([job_of(key) for key in keys]))
    orphans = [key for key in keys if job_of(key) not in known]
    for key in orphans:
        runtime.files.delete(key)
    if orphans:
        logger.info("Removed %d files whose jobs are gone", len(orphans))
    return len(orphans)


def _pages(keys: Iterator[str]) -> Iterator[list[str]]:
    while page := list(islice(keys, _AT_ONCE)):
        yield page
