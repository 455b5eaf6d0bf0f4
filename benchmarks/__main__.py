"""`python -m benchmarks [NAME…] [--quick] [--all] [--json PATH]`."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from aijobs.errors import AijobsError
from benchmarks import (
    http_get,
    http_latency,
    http_submit,
    listing,
    memory,
    parts,
    progress,
    recovery,
    streams,
    submit,
    throughput,
    tokens,
    waiting,
)
from benchmarks.harness import QUICK, ROOT, Bench, BenchmarkError, Scale
from benchmarks.report import Outcome, save, table

_BENCHMARKS = {
    "throughput": throughput.run,
    "progress": progress.run,
    "submit": submit.run,
    "http": http_submit.run,
    "get": http_get.run,
    "latency": http_latency.run,
    "list": listing.run,
    "streams": streams.run,
    "tokens": tokens.run,
    "waiting": waiting.run,
    "memory": memory.run,
    "recovery": recovery.run,
    "parts": parts.run,
}
#: Take long: only by name, or with --all.
_SLOW = frozenset({"list", "memory", "recovery", "parts"})


def main() -> int:
    """Runs the benchmarks that were asked for."""
    options = _parser().parse_args()
    names = _chosen(options.names, everything=options.all)
    path = options.json or ROOT / "benchmarks" / "results" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    log_path = path.with_suffix(".log")
    scale = QUICK if options.quick else Scale()
    try:
        outcomes = _run(names, scale, log_path)
    except (AijobsError, BenchmarkError) as error:
        print(f"benchmarks: {error} What the processes wrote is in {log_path}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    save(path, outcomes, scale)
    print(f"\n{table(outcomes)}\n\nA ratio above 1 means that aijobs is better. All rounds: {path}")
    return 0


def _run(names: list[str], scale: Scale, log_path: Path) -> dict[str, Outcome]:
    log_path.parent.mkdir(parents=True, exist_ok=True)
    outcomes = {}
    with log_path.open("wb") as log:
        for name in names:
            print(name, file=sys.stderr, flush=True)
            outcomes[name] = _BENCHMARKS[name](Bench(scale, log))
    return outcomes


def _chosen(names: list[str], *, everything: bool) -> list[str]:
    if everything:
        return list(_BENCHMARKS)
    return names or [name for name in _BENCHMARKS if name not in _SLOW]


def _name(text: str) -> str:
    # argparse's own `choices` refuse to have none chosen.
    if text not in _BENCHMARKS:
        raise argparse.ArgumentTypeError(f"there is no benchmark {text!r}; there are {', '.join(_BENCHMARKS)}")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ratios against stock Celery.")
    shown = ", ".join(name + " (slow)" * (name in _SLOW) for name in _BENCHMARKS)
    parser.add_argument(
        "names", nargs="*", type=_name, metavar="NAME", help=f"{shown}; by default all but the slow ones"
    )
    parser.add_argument("--quick", action="store_true", help="one round, fewer jobs: to try it, not to quote it")
    parser.add_argument("--all", action="store_true", help="the slow ones too")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to keep all rounds")
    return parser


if __name__ == "__main__":
    sys.exit(main())
