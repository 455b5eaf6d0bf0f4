"""The files fit together: what one names, another has."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aijobs.compose.kubernetes import BASE, KEDA
from tests.compose.deployments import BUSY, files_of, project

ALL = "pgvector,chroma,qdrant,flower,locust,grafana"


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, str]:
    """All files of a deployment that has everything."""
    files = files_of(project(tmp_path), BUSY, services=ALL, gpu=True, kubernetes=True)
    return {path: file.text for path, file in files.items()}


def objects(texts: dict[str, str], folder: str) -> list[dict[str, Any]]:
    found = (text for path, text in texts.items() if path.startswith(folder) and path.endswith(".yaml"))
    return [one for text in found for one in yaml.safe_load_all(text) if one["kind"] != "Kustomization"]


def named(texts: dict[str, str], kind: str, folder: str = BASE) -> set[str]:
    return {one["metadata"]["name"] for one in objects(texts, folder) if one["kind"] == kind}


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping within a value."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(inner)


def test_what_compose_mounts_is_written(texts: dict[str, str]) -> None:
    services = yaml.safe_load(texts["compose.yaml"])["services"]
    binds = [one.partition(":")[0] for service in services.values() for one in service.get("volumes", ())]
    for bind in (one.removeprefix("./") for one in binds if one.startswith("./")):
        assert any(path == bind or path.startswith(f"{bind}/") for path in texts), bind


def test_every_address_is_that_of_a_service(texts: dict[str, str]) -> None:
    services = yaml.safe_load(texts["compose.yaml"])["services"]
    pods = named(texts, "Service")
    for name, service in services.items():
        for value in service.get("environment", {}).values():
            for host in re.findall(r"(?:@|//)([a-z-]+):\d+", value):
                assert host in services, name
                assert host in pods or name in {"flower", "redis-exporter"}, name


def test_every_variable_is_explained(texts: dict[str, str]) -> None:
    explained = set(re.findall(r"^#?([A-Z_]+)=", texts[".env.example"], re.MULTILINE))
    assert set(re.findall(r"(?<!\$)\$\{([A-Z_]+)[:}]", texts["compose.yaml"])) <= explained


def test_kustomize_finds_what_it_is_told_of(texts: dict[str, str]) -> None:
    for folder in (BASE, KEDA):
        said = yaml.safe_load(texts[f"{folder}/kustomization.yaml"])
        own = {path.removeprefix(f"{folder}/") for path in texts if path.startswith(f"{folder}/")}
        files = [file for one in said.get("configMapGenerator", ()) for file in one["files"]]
        assert {*said["resources"], *files} - {"../base"} == own - {"kustomization.yaml"}
        for patch in said.get("patches", ()):
            assert patch["target"]["name"] in named(texts, patch["target"]["kind"])


def test_pods_find_what_they_are_told_of(texts: dict[str, str]) -> None:
    claims, maps = named(texts, "PersistentVolumeClaim"), {"postgres-files"}
    for one in objects(texts, BASE):
        for part in walk(one):
            if "claimName" in part:
                assert part["claimName"] in claims
            if "configMap" in part:
                assert part["configMap"]["name"] in maps
            if "secretKeyRef" in part:
                assert part["secretKeyRef"]["name"] == "shop-env"
                assert f"{part['secretKeyRef']['key']}=" in texts[".env.example"]
            if "volumeMounts" in part:
                mounted = {mount["name"] for mount in part["volumeMounts"]}
                kept = {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", ())}
                assert mounted == kept | {
                    volume["name"] for volume in one["spec"]["template"]["spec"].get("volumes", ())
                }


def test_scaling_is_of_workers_that_there_are(texts: dict[str, str]) -> None:
    scaled = [one for one in objects(texts, KEDA) if one["kind"] == "ScaledObject"]
    workers = {name for name in named(texts, "Deployment") if name.startswith("worker")}
    assert {one["spec"]["scaleTargetRef"]["name"] for one in scaled} == workers
    logins = named(texts, "TriggerAuthentication", KEDA)
    for trigger in (trigger for one in scaled for trigger in one["spec"]["triggers"]):
        assert trigger["authenticationRef"]["name"] in logins
        assert trigger["metadata"]["address"] == "redis.shop:6379"


@pytest.mark.parametrize(
    ("told", "is_well"),
    [
        ("api running healthy\nredis running healthy\n", True),
        ("api running starting\nredis running healthy\n", False),
        ("api running unhealthy\n", False),
        ("api running healthy\nredis exited \n", False),
        ("", False),
    ],
)
def test_make_health_fails_where_a_service_is_not_well(
    texts: dict[str, str], tmp_path: Path, told: str, is_well: bool
) -> None:
    (tmp_path / "Makefile").write_text(texts["Makefile"])
    (tmp_path / "told").write_text(told)
    (tmp_path / "compose.sh").write_text("cat told")
    command = ["make", "health", "COMPOSE=sh compose.sh"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert (done.returncode == 0, done.stdout) == (is_well, told)


def test_every_word_of_the_makefile_is_understood(texts: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(texts["Makefile"])
    for name in (".env.example", ".env"):
        (tmp_path / name).write_text("")
    words = re.findall(r"^\.PHONY: (.*)$", texts["Makefile"], re.MULTILINE)[0].split()
    assert {"up", "down", "logs", "scale-workers", "stats", "health", "test", "monitoring", "load"} <= set(words)
    for word in words:
        subprocess.run(["make", "--dry-run", word, "N=5"], cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run(
        ["make", "-n", "scale-workers", "N=5"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout == "docker compose up --detach --no-recreate --scale worker=5 worker\n"
