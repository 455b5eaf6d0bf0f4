"""Keys of files, and names for people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies
from pydantic import ValidationError

from aijobs import UploadedFile
from aijobs.files.folder import FolderStore
from aijobs.files.keys import age_of, check_key, clean_name, extension_of, job_of, new_key, space_of

SPACE = space_of(b"secret")


@given(strategies.text(strategies.characters(exclude_categories=["Cs"]), min_size=1, max_size=16))
def test_a_key_tells_its_job_and_age(job_id: str) -> None:
    key = new_key(SPACE, job_id, ".pdf")
    assert check_key(key) == key
    assert job_of(key) == job_id
    assert -1 < age_of(key) < 60
    assert key.count("/") == 2
    assert ".." not in key.split("/")


def test_no_two_keys_are_the_same() -> None:
    assert len({new_key(SPACE, "job") for _ in range(1_000)}) == 1_000


@pytest.mark.parametrize("job_id", ["", "x" * 151, "ü" * 30])
def test_ids_that_do_not_fit_into_a_name(job_id: str) -> None:
    with pytest.raises(ValueError, match="1 to 150"):
        new_key(SPACE, job_id)


#: As `new_key` makes them, but the same in each process that runs tests.
GOOD = f"{SPACE}/c7/c7b5ec178dd0e261b53354cd6b01d721.job.pdf"


def test_that_key_is_one() -> None:
    assert check_key(GOOD) == GOOD


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "/etc/passwd",
        "../../etc/passwd",
        GOOD + "/../../x",
        "../" + GOOD,
        "/" + GOOD,
        GOOD + "\n",
        GOOD.replace(".job.", "./../."),
        GOOD.replace(".job.", ".a/b."),
        GOOD.replace(".job.", ".a\\b."),
        GOOD.replace(".job.", ".a\0b."),
        GOOD.replace("/", "//", 1),
        GOOD.upper(),
        GOOD.replace(GOOD[13:15], "zz", 1),
        GOOD[:13] + ("00") + GOOD[15:],
        GOOD.replace(".pdf", ".p/f"),
        GOOD.replace(".pdf", ""),
        None,
        b"x",
    ],
)
def test_what_is_no_key_never_becomes_a_path(forged: Any, tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    operations: list[Callable[[Any], object]] = [store.open, store.exists, store.delete, store.begin, store.path]
    for operation in operations[:4]:
        with pytest.raises(ValueError, match="no key"):
            operation(forged)
    with pytest.raises(ValueError, match="no key"), store.path(forged):
        pass
    with pytest.raises(ValidationError):
        UploadedFile(key=forged, name="a", size=1, content_type="text/plain", sha256="0" * 64)


@given(strategies.text())
def test_any_name_becomes_one_for_people(given_name: str) -> None:
    name = clean_name(given_name.encode("utf-8", "replace").decode())
    assert name
    assert len(name.encode()) <= 255
    assert not set(name) & set("/\\\0\n\r\u202e")
    assert name not in (".", "..")
    assert clean_name(name) == name


@pytest.mark.parametrize(
    ("name", "extension"),
    [
        ("a.PDF", ".pdf"),
        ("a", ""),
        (".bashrc", ""),
        ("a.tar.gz", ".gz"),
        ("a.", ""),
        ("a.ü", ""),
        ("a." + "x" * 11, ""),
    ],
)
def test_extensions(name: str, extension: str) -> None:
    assert extension_of(name) == extension
