"""What the pages list is what the code has: names, numbers and defaults, no more and no less."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from pydantic_core import from_json, to_json

import aijobs
import aijobs.testing.plugin
from aijobs import ErrorCode, EventType, Job, JobStatus, Preset, Progress, Settings, Webhook, errors, presets, setup
from aijobs.broker.held import HELD, SESSIONS
from aijobs.broker.presence import DEPTH
from aijobs.cli import COMMANDS, main
from aijobs.files.kinds import KINDS, USUAL_EXTENSIONS
from aijobs.http import StreamLimits, job_router, multipart, problems, reading, router
from aijobs.http.exposure import RESERVED
from aijobs.http.render import View, job_json
from aijobs.job import TRANSITIONS
from aijobs.store.batches import BatchEventType, BatchStatus, NewBatch
from aijobs.store.deliveries import Delivery, DeliveryOutcome, DueAnnouncement
from aijobs.store.redis import RedisStore
from aijobs.store.values import Beat, Idempotency, OutputEntry, OutputWrite
from aijobs.worker import exceptions, pieces, progress
from aijobs.worker.patience import PATIENCE_SECONDS
from aijobs.worker.shapes import read_meta
from tests.docs.pages import ROOT, code, read, table
from tests.helpers import claim, new_job

NOTHING = "redis://localhost:1/0"
NUMERALS = {2.0: "two"}


def shown(value: object) -> str:
    """A default as a table has it."""
    value = " ".join(value) or None if isinstance(value, tuple) else value
    return "none" if value is None else f"`{value}`"


def test_settings() -> None:
    described = {row[0]: row[1] for row in table("configuration.md", "Variable")}
    assert described == {
        f"`AIJOBS_{name.upper()}`": shown(field.default) for name, field in Settings.model_fields.items()
    }


def test_ranges_of_settings() -> None:
    for row in table("configuration.md", "Variable"):
        name = code(row[0])[0]
        for bound in re.findall(r"^([\d.]+) to ([\d.]+)$", row[2]):
            for accepted in bound:
                Settings.from_env({name: accepted})
            for refused in (float(bound[0]) - 0.001, float(bound[1]) * 1.001):
                with pytest.raises(ValueError, match=name):
                    Settings.from_env({name: str(refused)})


def test_celery_options() -> None:
    described = {code(row[0])[0]: code(row[1])[0] for row in table("configuration.md", "Option")}
    plain = Celery(broker=NOTHING, backend=NOTHING, set_as_current=False)
    attached = Celery(broker=NOTHING, backend=NOTHING, set_as_current=False)
    setup(attached)
    changed = {name for name in attached.conf if attached.conf[name] != plain.conf.get(name)}
    assert changed <= described.keys()
    assert {name: str(attached.conf[name]) for name in described} == described


def test_numbers_that_reliability_and_cancelling_have() -> None:
    settings = Settings()
    attached = Celery(broker=NOTHING, backend=NOTHING, set_as_current=False)
    setup(attached)
    reliability, cancelling = (" ".join(read(name).split()) for name in ("reliability.md", "cancelling.md"))
    timeout = attached.conf.worker_soft_shutdown_timeout
    assert f"`worker_soft_shutdown_timeout` ({timeout:g} s)" in reliability
    assert f"`AIJOBS_MAX_DELIVERIES` ({settings.max_deliveries})" in reliability
    assert f"{settings.lease_seconds:g} s, the default" in reliability
    assert f"`AIJOBS_CANCEL_GRACE_SECONDS` ({settings.cancel_grace_seconds:g})" in cancelling
    assert f"more than {DEPTH:,} messages" in reliability
    assert f"tried to be written for {NUMERALS[PATIENCE_SECONDS / 60]} minutes" in reliability


def test_numbers_of_presets() -> None:
    heading = "max_retries", "backoff", "backoff_max", "soft_time_limit", "time_limit"
    described = {
        code(name)[0]: dict(zip(heading, map(int, numbers), strict=True))
        for name, *numbers in table("retries-and-limits.md", "Preset")
    }
    named = {name: value for name, value in vars(presets).items() if isinstance(value, Preset) and name[0] != "_"}
    assert described == {name: {one: getattr(preset, one) for one in heading} for name, preset in named.items()}
    for preset in named.values():
        assert preset.retry_for == presets.TRANSIENT
        assert (preset.jitter, preset.acks_late, preset.queue) == (True, True, None)
        assert (preset.retry_transient, preset.obey_providers, preset.patience) == (True, True, 3_600)


def test_waits_of_presets() -> None:
    text = " ".join(read("retries-and-limits.md").split())
    for preset, listed in (
        (presets.LLM_CALL, "2, 4, 8, 16 and 32 s"),
        (presets.EMBEDDING_BATCH, "10, 20, 40 and 80 s"),
    ):
        assert listed in text
        waits = [min(preset.backoff * 2**retry, preset.backoff_max) for retry in range(preset.max_retries or 0)]
        assert [int(number) for number in re.findall(r"\d+", listed)] == waits


def test_values_of_presets() -> None:
    described = {code(row[0])[0]: code(row[1])[0] for row in table("retries-and-limits.md", "Value")}
    assert described == {field.name: str(field.default) for field in fields(Preset)}


def test_transitions() -> None:
    described = {(code(row[0])[0], code(row[1])[0]) for row in table("records.md", "From")}
    assert described == {(before, after) for before, allowed in TRANSITIONS.items() for after in allowed}


def test_error_codes() -> None:
    described = {code(row[0])[0]: row[2] for row in table("records.md", "`error.code`")}
    assert described == {one.value: "yes" if one.retryable else "no" for one in ErrorCode}


def test_files_that_are_taken() -> None:
    described = [one for row in table("uploads.md", "Files") for one in code(row[1])]
    assert sorted(described) == sorted(USUAL_EXTENSIONS)
    others = re.findall(r"It also knows ([^,]*(?:, [^,]*)*), where", " ".join(read("uploads.md").split()))
    assert set(code(others[0])) == KINDS.keys() - USUAL_EXTENSIONS


def test_limits_of_uploads() -> None:
    settings = Settings()
    described = [row[1].replace(",", "") for row in table("uploads.md", "Limit")]
    assert [int(number) for text in described for number in re.findall(r"\d+", text)] == [
        settings.file_bytes,
        settings.upload_files,
        settings.upload_bytes,
        reading.MOST_FIELDS,
        reading.MOST_FIELD_BYTES,
        multipart.MOST_HEADERS,
        multipart.MOST_HEADER_BYTES,
        reading.UPLOAD_SECONDS,
    ]


def test_errors() -> None:
    described = {code(row[0])[0] for row in table("getting-started.md", "Error")}
    raised = {name for name, one in vars(errors).items() if inspect.isclass(one) and issubclass(one, Exception)}
    assert described == raised | (vars(exceptions).keys() & set(aijobs.__all__))


def test_commands() -> None:
    assert [code(row[0])[0] for row in table("index.md", "Command")] == [f"aijobs {name}" for name in COMMANDS]


def test_fields_of_a_record(store: RedisStore) -> None:
    rows = table("records.md", "JSON")
    job = store.run(store.create(new_job())).job
    assert job is not None
    shown_in_json: dict[str, Any] = from_json(job_json(job, View("/jobs")))
    assert {code(row[0])[0] for row in rows if row[0]} == shown_in_json.keys()
    assert {name for row in rows for name in code(row[1])} == {field.name for field in fields(Job)} | {"result"}
    example = from_json(re.findall(r"^```json\n(.*?)^```", read("http-api.md"), re.MULTILINE | re.DOTALL)[0])
    assert example.keys() == shown_in_json.keys()
    assert [code(row[0])[0] for row in table("progress.md", "Field")] == [field.name for field in fields(Progress)]


def test_shapes_of_progress() -> None:
    for row in table("progress.md", "`meta`"):
        write = read_meta(from_json(code(row[0])[0]))
        detail = {} if write is None else from_json(write.detail_json)
        found = [detail.get(name) for name in ("current", "total", "step", "message")]
        fraction = "" if write is None or write.fraction is None else f"{write.fraction:.6g}"
        assert row[1:] == [fraction, *("" if one is None else str(one) for one in found)], row[0]


def test_problems() -> None:
    described = {(code(row[0])[0], int(row[1])) for row in table("http-api.md", "`type` after `urn:aijobs:problem:`")}
    known = [value for value in vars(problems).values() if isinstance(value, problems.ProblemType)]
    assert described == {(one.name, one.status) for one in known}


def test_events() -> None:
    described = {code(row[0])[0] for row in table("http-api.md", "Event")}
    assert described == {*EventType, "job.snapshot", "stream.gap"}


def test_batches() -> None:
    events = {code(row[0])[0] for row in table("batches.md", "Batch event")}
    assert events == {*BatchEventType, "batch.snapshot", "stream.gap"}
    assert [code(row[0])[0] for row in table("batches.md", "Status")] == list(BatchStatus)
    text = " ".join(read("batches.md").split())
    assert f"{router.MAX_BATCH_ITEMS:,} items" in text
    assert f"{router.MAX_BATCH_BYTES // 1_048_576} MiB" in text


def test_routes() -> None:
    described = {
        (*code(row[0])[0].split(), frozenset(re.findall(r"\d+", row[2]))) for row in table("http-api.md", "Route")
    }
    assert described == set(_routes())


def _routes() -> Any:
    from fastapi import FastAPI

    app = FastAPI()
    celery_app = Celery(broker=NOTHING, backend=NOTHING, set_as_current=False)

    @celery_app.task(shared=False, name="embed")
    def embed(text: str) -> None: ...

    app.include_router(job_router(celery_app, tasks=["embed"], admin=lambda: True))
    for path, operations in app.openapi()["paths"].items():
        below = path.removeprefix("/jobs").replace("/embed", "/{task}") or "/"
        for method, operation in operations.items():
            yield (
                method.upper(),
                below,
                frozenset(one for one in operation["responses"] if one >= "400" and one.isdigit()),
            )


def test_modules() -> None:
    source = ROOT / "src"
    listed: set[Path] = set()
    for first, *others in (code(row[0]) for row in table("architecture.md", "Module")):
        listed |= {source / first, *((source / first).parent / name for name in others)}
    assert [str(path) for path in listed if not path.exists()] == []
    modules = {path for path in source.rglob("*.py") if path.stat().st_size and not path.name.startswith("__")}
    assert [str(path) for path in modules if listed.isdisjoint({path, *path.parents})] == []


def test_limits_of_output() -> None:
    settings = Settings()
    limits = {row[0]: row[1] for row in table("output.md", "What")}
    assert limits["data of one `emit`"] == f"{pieces.MOST_BYTES:,} bytes of JSON"
    assert limits["a line of `log`"] == f"{pieces.MOST_BYTES:,} bytes"
    assert limits["output that is kept of a job"].endswith(f"{settings.output_bytes // 1_048_576} MiB")
    assert limits["output that waits while the store is away"] == f"{progress.MOST_WAITING // 1_048_576} MiB"
    text = " ".join(read("output.md").split())
    assert f"{settings.output_interval_seconds * 1_000:g} milliseconds" in text
    assert f"up to {NUMERALS[PATIENCE_SECONDS / 60]} minutes" in text


def test_reserved_segments() -> None:
    text = " ".join(read("http-api.md").split())
    sentence = re.findall(r"The words ([^.]*) are taken", text)
    assert set(code(sentence[0])) == RESERVED


def test_arguments_of_job_router() -> None:
    described = {code(row[0])[0]: row[1] for row in table("http-api.md", "Argument")}
    defaults = {name: one.default for name, one in inspect.signature(job_router).parameters.items()}
    # What None stands for.
    meant = {**defaults, "tags": '["jobs"]', "stream_limits": "StreamLimits()"}
    del meant["celery_app"]
    assert described == {name: shown(value) for name, value in meant.items()}


def test_times_of_streams() -> None:
    limits = StreamLimits()
    text = read("http-api.md")
    assert f"comment every {limits.ping_seconds:g} s" in text
    assert f"nothing for {limits.send_seconds:g} s" in text
    assert limits.lifetime_seconds == 600


def test_options_of_the_development_server(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["dev", "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    described = {code(row[0])[0].split()[0] for row in table("development-server.md", "Option")}
    assert described == known | {"MODULE:APP"}


def test_keys(store: RedisStore, redis_client: redis.Redis) -> None:
    job = new_job(owner="ann", batch_id="b", parent_id="p", idempotency=Idempotency("s", "k", "f"))
    store.run(store.create(new_job()))
    _tell_of_jobs(store)
    store.run(store.create_batch(NewBatch("b", 1)))
    store.run(store.create(job))
    store.run(store.start(claim(job)))
    said = OutputWrite(0, [OutputEntry(EventType.OUTPUT, b'{"text":"a"}')])
    store.run(store.report(claim(job), None, None, said))
    store.run(
        store.finish(claim(job), JobStatus.SUCCESS, result_json=to_json("x" * store.settings.inline_result_bytes))
    )
    goes_on = new_job()
    store.run(store.create(goes_on))
    store.run(store.keep(claim(goes_on), "checkpoint", "1", 100))
    store.run(store.beat(Beat("session", "worker", "{}")))
    store.run(store.suspects(grace=1))
    store.run(store.secret())
    store.run(store.take_turn("files", 60))
    described = {name: _pattern(name) for name in (code(row[0])[0] for row in table("records.md", "Key"))}
    keys: Any = redis_client.keys()
    found = {key.decode() for key in keys}
    unknown = {key for key in found if not any(pattern.fullmatch(key) for pattern in described.values())}
    unused = {name for name, pattern in described.items() if not any(map(pattern.fullmatch, found))}
    assert (unknown, unused) == (set(), set())


def _tell_of_jobs(store: RedisStore) -> None:
    told = new_job(webhook=Webhook("https://a.example", ("job.status",)))
    environ = {"WEBHOOK_URL": "https://b.example", "WEBHOOK_SECRETS": "s", "WEBHOOK_EVENTS": "job.status"}
    others = RedisStore(store._url, Settings.from_env({f"AIJOBS_{name}": value for name, value in environ.items()}))
    store.run(store.create(told))
    other = new_job()
    store.run(others.create(other))
    for job in (told, other):
        due = DueAnnouncement(job.id, 1)
        store.run(store.begin_delivery(due, "https://b.example", 1))
        now = datetime.now(UTC)
        delivery = Delivery(1, EventType.STATUS, 1, now, 0, DeliveryOutcome.RETRYING, 410, None, now)
        assert store.run(store.settle_delivery(due, "https://b.example", delivery, 60))


def test_keys_in_the_brokers_database() -> None:
    described = [code(row[0])[0] for row in table("records.md", "Key there")]
    assert described == [f"{HELD}{{session}}", SESSIONS]


def _pattern(name: str) -> re.Pattern[str]:
    """A key as the table has it, with a value in each pair of braces."""
    return re.compile(re.sub(r"\\{\w+\\}", "[^:]+", re.escape(name)))


def test_names_of_testing() -> None:
    described = [name for row in table("testing.md", "In `aijobs.testing`") for name in code(row[0])]
    assert sorted(described) == aijobs.testing.__all__


def test_what_a_run_has() -> None:
    described = {name.removesuffix("()") for row in table("testing.md", "`JobRun`") for name in code(row[0])}
    assert described == {name for name in dir(aijobs.testing.JobRun) if not name.startswith("_")}


def test_what_a_worker_does() -> None:
    described = {name.partition("(")[0] for row in table("testing.md", "`Worker`") for name in code(row[0])}
    known = {name for name in dir(aijobs.testing.Worker) if not name.startswith("_")}
    assert described == known - {"close", "start", "store"}


def test_fixtures() -> None:
    described = [code(row[0])[0] for row in table("testing.md", "Fixture")]
    assert described == [name for name in vars(aijobs.testing.plugin) if name.startswith("aijobs_")]
