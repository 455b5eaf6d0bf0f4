"""`python -m tests.chaos [--jobs N] [--minutes N] [--pause N] [--workers N] [--split] [--seed N] [--folder PATH]`."""

from __future__ import annotations

import argparse
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.chaos import run
from tests.chaos.plan import Scale

#: Seconds of outages: mostly short, some long enough for leases to pass, now and then a real one.
_OUTAGES = (*[(0.3, 2.0)] * 5, *[(2.0, 10.0)] * 4, (30.0, 60.0))
#: How many violations are printed; all are in the folder.
_SHOWN = 50


def main() -> int:
    """Runs one round; the status is 1 when anything was violated, and the folder with all logs is kept then."""
    options = _parser().parse_args()
    # Like Ctrl-C, so that whatever was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir=options.folder))
    scale = Scale(
        options.jobs, 60 * options.minutes, options.workers, options.pause, _outages(options.minutes), options.split
    )
    try:
        violations = run(scale, options.seed, folder, _say)
    except KeyboardInterrupt:
        return 130
    _say(f"\n{len(violations)} violations" if violations else "\nnothing was violated")
    for violation in violations[:_SHOWN]:
        _say(f"  {violation}")
    if violations:
        (folder / "violations").write_text("\n".join(violations))
        _say(f"seed {options.seed}; logs and evidence are in {folder}")
    else:
        shutil.rmtree(folder)
    return int(bool(violations))


def _outages(minutes: float) -> Sequence[tuple[float, float]]:
    return _OUTAGES if minutes >= 2 else _OUTAGES[:6]


def _say(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Jobs under trouble.")
    parser.add_argument("--jobs", type=int, default=5_000, help="how many to submit, at least (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=10, help="how long trouble lasts (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="worker processes (default: %(default)s)")
    parser.add_argument("--pause", type=float, default=2.5, help="seconds between troubles (default: %(default)s)")
    parser.add_argument("--split", action="store_true", help="keep the records in a server apart from the messages")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="repeats a plan (default: any)")
    parser.add_argument("--folder", type=Path, help="where data, logs and evidence go (default: a temporary folder)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
