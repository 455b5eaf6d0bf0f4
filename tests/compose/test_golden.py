"""The files of the main combinations, as they are. `python -m tests.compose.test_golden` writes them anew."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from aijobs.compose.inspection import Facts
from tests.compose.deployments import BUSY, PLAIN, files_of, project

GOLDEN = Path(__file__).parent / "golden"

REDBEAT = Facts(PLAIN.queues, has_schedule=True, scheduler="redbeat.RedBeatScheduler", soft_shutdown_seconds=0.0)
#: What the projects depend on, where that is not aijobs alone.
REQUIREMENTS = {"everything": "aijobs[uploads]"}
COMBINATIONS: dict[str, tuple[Facts, dict[str, object]]] = {
    "smallest": (PLAIN, {}),
    "classes": (BUSY, {"services": "valkey,postgres,flower", "gpu": True, "port": 8080, "makefile": "deploy.mk"}),
    "everything": (
        REDBEAT,
        {
            "services": "pgvector,chroma,qdrant,flower,locust,grafana",
            "kubernetes": True,
            "workers": 3,
            "system_packages": "libpq5",
        },
    ),
}


def written(name: str, root: Path) -> dict[str, str]:
    facts, options = COMBINATIONS[name]
    files = files_of(project(root, REQUIREMENTS.get(name, "aijobs")), facts, **options)
    return {path: file.text for path, file in files.items()}


@pytest.mark.parametrize("name", COMBINATIONS)
def test_files_are_as_they_were_agreed(name: str, tmp_path: Path) -> None:
    folder = GOLDEN / name
    expected = {one.relative_to(folder).as_posix(): one.read_text() for one in folder.rglob("*") if one.is_file()}
    assert written(name, tmp_path) == expected


def main() -> None:
    """Writes the files anew."""
    for name in COMBINATIONS:
        shutil.rmtree(GOLDEN / name, ignore_errors=True)
        with tempfile.TemporaryDirectory() as root:
            for path, text in written(name, Path(root)).items():
                target = GOLDEN / name / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)


if __name__ == "__main__":
    main()
