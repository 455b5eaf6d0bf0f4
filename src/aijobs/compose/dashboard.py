"""What Prometheus collects, and the dashboard that Grafana shows of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from aijobs.compose.files import blank_head
from aijobs.compose.monitoring import EXPORTER_PORT
from aijobs.compose.services import Deployment
from aijobs.compose.yaml import Node, Note, dump

_SOURCE = {"type": "prometheus", "uid": "prometheus"}
_SIZE = "redis_key_size"


def prometheus() -> str:
    """The configuration of Prometheus."""
    return dump(
        {
            "global": {"scrape_interval": "15s"},
            "scrape_configs": [
                Note(
                    "The broker, and the jobs by status and queue: REDIS_EXPORTER_CHECK_SINGLE_KEYS in compose.yaml.",
                    {"job_name": "redis", "static_configs": [{"targets": [f"redis-exporter:{EXPORTER_PORT}"]}]},
                )
            ],
        }
    )


def datasource() -> str:
    """Where Grafana finds Prometheus."""
    source: Node = {
        **_SOURCE,
        "name": "Prometheus",
        "access": "proxy",
        "url": "http://prometheus:9090",
        "isDefault": True,
    }
    return dump({"apiVersion": 1, "datasources": [source]})


def provider() -> str:
    """Where Grafana finds the dashboards."""
    options = {"path": "/etc/grafana/dashboards"}
    return dump({"apiVersion": 1, "providers": [{"name": "files", "type": "file", "options": options}]})


def dashboard(plan: Deployment) -> str:
    """The dashboard of the jobs. Each panel shows what the exporter of the broker really counts."""
    document = {
        "title": f"Jobs of {plan.spec.project}",
        "description": blank_head(),
        "uid": "aijobs",
        "schemaVersion": 39,
        "refresh": "15s",
        "time": {"from": "now-3h", "to": "now"},
        "tags": ["aijobs"],
        "panels": list(_panels()),
    }
    return json.dumps(document, indent=2) + "\n"


def _panels() -> Iterator[dict[str, Any]]:
    by_status = f'{_SIZE}{{key=~".+:jobs:(queued|running|failed|success|revoked)"}}'
    shown = f'label_replace({by_status}, "status", "$1", "key", ".+:jobs:(.+)")'
    waiting = f'label_replace({_SIZE}{{key=~".+:queue:.+"}}, "queue", "$1", "key", ".+:queue:(.+)")'
    now = (
        ("Waiting", f'{_SIZE}{{key=~".+:jobs:queued"}}', "short"),
        ("Running", f'{_SIZE}{{key=~".+:jobs:running"}}', "short"),
        ("Failed, of those still kept", f'{_SIZE}{{key=~".+:jobs:failed"}}', "short"),
        ("Workers that report", f'{_SIZE}{{key=~".+:workers"}}', "short"),
        ("Memory of the broker", "redis_memory_used_bytes / redis_memory_max_bytes", "percentunit"),
        ("Jobs lost to eviction", "redis_evicted_keys_total", "short"),
    )
    for position, (title, query, unit) in enumerate(now):
        yield _panel("stat", title, {query: ""}, unit, (position * 4, 0, 4, 4))
    yield _panel("timeseries", "Jobs by status", {shown: "{{status}}"}, "short", (0, 4, 12, 9))
    yield _panel("timeseries", "Waiting, by queue", {waiting: "{{queue}}"}, "short", (12, 4, 12, 9))
    memory = {"redis_memory_used_bytes": "used", "redis_memory_max_bytes": "limit"}
    yield _panel("timeseries", "Memory of the broker", memory, "bytes", (0, 13, 8, 8))
    rates = {"rate(redis_commands_processed_total[1m])": "commands"}
    yield _panel("timeseries", "Commands a second", rates, "ops", (8, 13, 8, 8))
    clients = {"redis_connected_clients": "connected", "redis_blocked_clients": "waiting for messages"}
    yield _panel("timeseries", "Connections", clients, "short", (16, 13, 8, 8))


def _panel(
    kind: str, title: str, queries: Mapping[str, str], unit: str, place: tuple[int, int, int, int]
) -> dict[str, Any]:
    x, y, width, height = place
    targets = [
        {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend, "datasource": _SOURCE}
        for number, (query, legend) in enumerate(queries.items())
    ]
    return {
        "type": kind,
        "title": title,
        "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": width, "h": height},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": targets,
    }
