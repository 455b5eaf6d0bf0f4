"""Files that people may change."""

from __future__ import annotations

from pathlib import Path

import pytest

from aijobs.compose.files import CURRENT, File, Standing, blank_head, differences, leftovers, standing, write
from aijobs.errors import ConfigurationError

OLD = File.of("a/settings.yaml", "one: 1\n")
NEW = File.of("a/settings.yaml", "one: 2\n")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is, as it was written once."""
    write(tmp_path, [OLD])
    return tmp_path / OLD.path


def test_the_head_goes_where_each_format_has_comments() -> None:
    assert File.of("x.md", "# Title\n").text.startswith("<!-- Written by")
    assert File.of("x.sql", "SELECT 1;\n").text.startswith("-- Written by")
    assert File.of("Makefile", "up:\n").text.endswith("\n\nup:\n")
    directives = "# syntax=docker/dockerfile:1\n# check=error=true\n"
    assert File.of("Dockerfile", f"{directives}FROM scratch\n").text.startswith(f"{directives}# Written by")
    in_json = File.of("x.json", f'{{"description": "{blank_head()}"}}\n').text
    assert in_json.startswith('{"description": "Written by')
    assert "0" * 64 not in in_json


def test_each_standing(tmp_path: Path, path: Path) -> None:
    assert standing(tmp_path, OLD) is Standing.SAME
    assert standing(tmp_path, NEW) is Standing.OUTDATED
    path.write_text(OLD.text.replace("one: 1", "one: 3"))
    assert standing(tmp_path, OLD) is Standing.EDITED
    assert standing(tmp_path, NEW) is Standing.CONFLICT
    path.write_text("one: 1\n")
    assert standing(tmp_path, NEW) is Standing.FOREIGN
    path.unlink()
    assert standing(tmp_path, NEW) is Standing.MISSING


def test_line_ends_of_a_checkout_are_no_change(tmp_path: Path, path: Path) -> None:
    path.write_bytes(OLD.text.replace("\n", "\r\n").encode())
    assert standing(tmp_path, OLD) in CURRENT
    assert standing(tmp_path, NEW) is Standing.OUTDATED


def test_what_nobody_changed_is_replaced(tmp_path: Path, path: Path) -> None:
    assert write(tmp_path, [NEW]) == [(NEW.path, Standing.OUTDATED)]
    assert path.read_text() == NEW.text
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_what_people_changed_stays(tmp_path: Path, path: Path) -> None:
    edited = OLD.text + "two: 2\n"
    path.write_text(edited)
    assert write(tmp_path, [OLD]) == [(OLD.path, Standing.EDITED)]
    assert path.read_text() == edited
    assert differences(tmp_path, [OLD]) == []


@pytest.mark.parametrize("text", [OLD.text + "two: 2\n", "theirs: true\n"], ids=["changed", "foreign"])
def test_nothing_is_written_where_one_file_is_in_the_way(tmp_path: Path, path: Path, text: str) -> None:
    path.write_text(text)
    other = File.of("other.yaml", "a: 1\n")
    with pytest.raises(ConfigurationError, match=r"Nothing was written.*a/settings.yaml.*--force"):
        write(tmp_path, [other, NEW])
    assert path.read_text() == text
    assert not (tmp_path / other.path).exists()
    (diff,) = differences(tmp_path, [NEW])
    assert "+one: 2" in diff
    write(tmp_path, [other, NEW], force=True)
    assert path.read_text() == NEW.text


def test_the_digest_line_takes_a_change_over(tmp_path: Path, path: Path) -> None:
    """Who merged by hand puts the new digest in, and is up to date."""
    path.write_text(NEW.text + "two: 2\n")
    assert standing(tmp_path, NEW) is Standing.EDITED


def test_a_new_file_is_a_difference(tmp_path: Path) -> None:
    (diff,) = differences(tmp_path, [NEW])
    assert diff.startswith("--- a/settings.yaml\n+++ a/settings.yaml (generated)")


def test_links_out_of_the_project_are_not_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "a").symlink_to(outside)
    with pytest.raises(ConfigurationError, match="no plain file of the project"):
        write(root, [OLD])
    (root / "a").unlink()
    (root / "a").mkdir()
    (root / OLD.path).symlink_to(outside / "x")
    with pytest.raises(ConfigurationError, match="no plain file of the project"):
        write(root, [OLD], force=True)
    assert list(outside.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write(tmp_path, [OLD])


def test_what_is_no_longer_written_is_named(tmp_path: Path, path: Path) -> None:
    (path.parent / "theirs.yaml").write_text("a: 1\n")
    assert leftovers(tmp_path, [], "a") == [OLD.path]
    assert leftovers(tmp_path, [NEW], "a") == []
    assert leftovers(tmp_path, [NEW], "nowhere") == []
