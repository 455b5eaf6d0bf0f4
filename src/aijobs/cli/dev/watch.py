"""Says when source files change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

_IGNORED = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})


class Watcher:
    """Watches folders for changed Python files; not what is hidden or installed, and not the data folder.

    Args:
        folders: what to watch, with all that is below.
        ignored: the data folder.
        on_change: called in the watcher's thread after changes; `take` gives them.
        on_failure: called in the watcher's thread when watching is not possible.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        ignored: Path,
        on_change: Callable[[], None],
        on_failure: Callable[[OSError | RuntimeError], None],
    ) -> None:
        self._folders = [folder.resolve() for folder in folders]
        self._ignored = ignored.resolve()
        self._on_change = on_change
        self._on_failure = on_failure
        self._changed: set[Path] = set()
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="aijobs-watch", daemon=True)

    def start(self) -> None:
        """Begins to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watches no more."""
        self._done.set()
        self._thread.join()

    def take(self) -> list[Path]:
        """The files that changed since the last call."""
        with self._lock:
            changed, self._changed = self._changed, set()
        return sorted(changed)

    def _watch(self) -> None:
        from watchfiles import watch

        try:
            for changes in watch(
                *self._folders,
                watch_filter=lambda _, path: self._counts(Path(path)),
                stop_event=self._done,
                raise_interrupt=False,
            ):
                with self._lock:
                    self._changed |= {Path(path) for _, path in changes}
                self._on_change()
        except (OSError, RuntimeError) as error:
            self._on_failure(error)

    def _counts(self, path: Path) -> bool:
        if path.suffix != ".py" or path.is_relative_to(self._ignored):
            return False
        root = next((folder for folder in self._folders if path.is_relative_to(folder)), path.parent)
        return not any(part in _IGNORED or part.startswith(".") for part in path.relative_to(root).parts)
