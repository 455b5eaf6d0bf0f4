"""How a project says what it needs, found out by looking into its folder."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from aijobs.compose.libraries import libraries
from aijobs.compose.spec import Installer
from aijobs.errors import ConfigurationError

REQUIREMENTS, PYPROJECT, LOCK = "requirements.txt", "pyproject.toml", "uv.lock"

#: The file of each installer; what names versions goes before what names ranges.
_FILES = {Installer.UV: LOCK, Installer.REQUIREMENTS: REQUIREMENTS, Installer.PYPROJECT: PYPROJECT}

#: What is copied when a dependency is the project itself: everything.
EVERYTHING = "."

_INCLUDE = re.compile(r"(?:-r|-c|--requirement|--constraint)(?:\s*=\s*|\s+|(?=[^\s-]))(?P<path>\S+)")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s*=\s*|\s+)(?P<path>\S+)")
_COMMENT = re.compile(r"(^|\s)#.*")
_EXTRAS = re.compile(r"\[[^]]*\]$")
_ARCHIVES = (".whl", ".zip", ".tar.gz")
#: Characters that need no quotes in a Dockerfile.
_PLAIN = re.compile(r"[A-Za-z0-9._+/-]+")


@dataclass(frozen=True, slots=True)
class Installation:
    """How the packages of a project get into an image."""

    #: Never `AUTO`.
    installer: Installer
    #: Files and folders that the installer reads before it sees the code, relative to the project, with slashes.
    needs: tuple[str, ...]
    #: Whether the project itself is a package, to be installed with the rest.
    is_package: bool = False
    #: Whether the packages are named where they can be read without building the project.
    is_static: bool = True
    #: Whether the code is in a folder `src`.
    has_src: bool = False
    #: Packages of Debian and Ubuntu that the Python packages need when they run.
    libraries: tuple[str, ...] = ()


def find(root: Path, wanted: Installer = Installer.AUTO) -> Installation:
    """How a project is to be installed.

    With `Installer.AUTO` that is by `uv.lock`, else `requirements.txt`, else `pyproject.toml`: what names versions goes
    before what names ranges.

    Args:
        root: the project's folder.
        wanted: the way to use.

    Raises:
        ConfigurationError: there is none, the file for the one that is wanted is missing or cannot be read, or it names
            something that an image cannot have.
    """
    installer = _choose(root, wanted)
    _check(root, installer)
    project = _toml(root / PYPROJECT) if (root / PYPROJECT).exists() else {}
    has_src = (root / "src").is_dir()
    match installer:
        case Installer.UV:
            return _by_uv(root, project, has_src=has_src)
        case Installer.REQUIREMENTS:
            return _by_requirements(root, project, has_src=has_src)
        case _:
            static = _has_dependencies(project)
            is_package = "build-system" in project or not static
            return Installation(installer, (PYPROJECT,), is_package, static, has_src, libraries(_dependencies(project)))


def _by_uv(root: Path, project: Mapping[str, Any], *, has_src: bool) -> Installation:
    lock = _toml(root / LOCK)
    needs = (PYPROJECT, LOCK, *_checked(_of_lock(lock), root, LOCK))
    packages = (str(package.get("name", "")) for package in lock.get("package", []))
    return Installation(
        Installer.UV, _sorted(needs), _is_package(project), has_src=has_src, libraries=libraries(packages)
    )


def _by_requirements(root: Path, project: Mapping[str, Any], *, has_src: bool) -> Installation:
    files = dict(_requirements_files(root, REQUIREMENTS, set()))
    needs = _sorted(chain(files, *(_local_packages(root, name, lines) for name, lines in files.items())))
    # Where the project itself is one of its packages, what it depends on is installed as well.
    further = _dependencies(project) if needs == (EVERYTHING,) else []
    return Installation(
        Installer.REQUIREMENTS, needs, has_src=has_src, libraries=libraries(chain(*files.values(), further))
    )


def _choose(root: Path, wanted: Installer) -> Installer:
    if wanted is not Installer.AUTO:
        return wanted
    for installer, name in _FILES.items():
        if (root / name).is_file():
            return installer
    raise ConfigurationError(
        f"{root} has no {LOCK}, {REQUIREMENTS} or {PYPROJECT}, so nothing says what to install: write one of them."
    )


def _check(root: Path, installer: Installer) -> None:
    names = [_FILES[installer]] if installer is not Installer.UV else [LOCK, PYPROJECT]
    for name in names:
        if not (root / name).is_file():
            raise ConfigurationError(f"The installer {installer} needs the file {name}, which {root} has not.")
    if installer is Installer.PYPROJECT and "project" not in _toml(root / PYPROJECT):
        raise ConfigurationError(
            f"{root / PYPROJECT} has no [project] that says what to install: give it one with dependencies, or write a "
            f"{REQUIREMENTS}."
        )


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None


def _is_package(project: Mapping[str, Any]) -> bool:
    """Whether uv installs the project itself."""
    said = project.get("tool", {}).get("uv", {}).get("package")
    return bool("build-system" in project if said is None else said)


def _has_dependencies(project: Mapping[str, Any]) -> bool:
    return "dependencies" not in project["project"].get("dynamic", [])


def _dependencies(project: Mapping[str, Any]) -> list[str]:
    return [str(one) for one in project.get("project", {}).get("dependencies", [])]


def _of_lock(lock: Mapping[str, Any]) -> Iterator[str]:
    """The files and folders that a lock file takes packages from; the project itself is not one."""
    for package in lock.get("package", []):
        source = package.get("source", {})
        for kind in ("path", "directory", "editable", "virtual"):
            if source.get(kind, EVERYTHING) != EVERYTHING:
                yield source[kind]


def _requirements_files(root: Path, name: str, seen: set[str]) -> Iterator[tuple[str, list[str]]]:
    """A requirements file and those that it includes, each with its lines."""
    if name in seen:
        return
    seen.add(name)
    try:
        lines = list(_lines((root / name).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{root / name} cannot be read: {error}") from None
    yield name, lines
    for included in filter(None, map(_INCLUDE.fullmatch, lines)):
        if "://" not in included["path"]:
            # Of the folder where the including file is.
            nested = (PurePosixPath(name).parent / included["path"]).as_posix()
            for path in _checked([nested], root, name):
                yield from _requirements_files(root, path, seen)


def _local_packages(root: Path, name: str, lines: Iterable[str]) -> Iterator[str]:
    """The files and folders that the lines of a requirements file take packages from."""
    paths = (_local_path(line) for line in lines if not _INCLUDE.fullmatch(line))
    return _checked(filter(None, paths), root, name)


def _lines(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        if bare := _COMMENT.sub("", line).strip():
            yield bare


def _local_path(line: str) -> str | None:
    """The file or folder of this project that a line of a requirements file takes a package from."""
    editable = _EDITABLE.fullmatch(line)
    requirement: str = editable["path"] if editable else line.partition(";")[0].partition(" --")[0]
    target = _EXTRAS.sub("", requirement.rpartition(" @ ")[2].strip())
    is_path = editable is not None or target.startswith((".", "/", "~", "file:")) or target.endswith(_ARCHIVES)
    return target.removeprefix("file:") if is_path and "://" not in target else None


def _checked(paths: Iterable[str], root: Path, name: str) -> Iterator[str]:
    """Paths in the form that a Dockerfile takes.

    Raises:
        ConfigurationError: one leads out of the project, is not there, or has characters that would need quotes.
    """
    for given in paths:
        path = PurePosixPath(given)
        inside = (root / path).resolve().is_relative_to(root.resolve())
        if path.is_absolute() or given.startswith("~") or ".." in path.parts or not inside:
            raise ConfigurationError(
                f"{name} names {given!r}, which is outside of {root}: copy it there, since an image takes no more."
            )
        if not (root / path).exists():
            raise ConfigurationError(f"{name} names {given!r}, which {root} has not.")
        if not _PLAIN.fullmatch(path.as_posix()):
            raise ConfigurationError(
                f"{name} names {given!r}: a path for an image takes letters, digits and the characters . _ + - /"
            )
        yield path.as_posix()


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    """Each once, in an order that stays; nothing else when it is everything."""
    found = sorted(set(names))
    return (EVERYTHING,) if EVERYTHING in found else tuple(found)
