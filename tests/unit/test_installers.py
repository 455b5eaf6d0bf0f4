"""What a project's folder says of how it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from aijobs.compose.installers import Installation, find
from aijobs.compose.spec import Installer
from aijobs.errors import ConfigurationError

PROJECT = '[project]\nname = "shop"\nversion = "1"\ndependencies = ["aijobs"]\n'
UPLOADS = PROJECT.replace('"aijobs"', '"aijobs[files, uploads]>=0.1"')
BUILT = '[build-system]\nrequires = ["hatchling"]\n'


def write(root: Path, **files: str) -> Path:
    """Files by their names, with `__` for a dot and `_` for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", ".").replace("_", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


class TestChoice:
    def test_what_names_versions_goes_first(self, tmp_path: Path) -> None:
        write(tmp_path, pyproject__toml=PROJECT)
        assert find(tmp_path).installer is Installer.PYPROJECT
        write(tmp_path, requirements__txt="aijobs==0.1\n")
        assert find(tmp_path).installer is Installer.REQUIREMENTS
        write(tmp_path, uv__lock="version = 1\n")
        assert find(tmp_path).installer is Installer.UV

    @pytest.mark.parametrize("wanted", [Installer.REQUIREMENTS, Installer.PYPROJECT, Installer.UV])
    def test_what_is_wanted(self, tmp_path: Path, wanted: Installer) -> None:
        write(tmp_path, pyproject__toml=PROJECT, requirements__txt="aijobs\n", uv__lock="version = 1\n")
        assert find(tmp_path, wanted).installer is wanted

    @pytest.mark.parametrize(
        ("files", "wanted", "message"),
        [
            ({}, Installer.AUTO, "has no uv.lock, requirements.txt or pyproject.toml"),
            ({}, Installer.REQUIREMENTS, "The installer requirements needs the file requirements.txt, which"),
            ({"requirements__txt": ""}, Installer.PYPROJECT, "needs the file pyproject.toml"),
            ({"uv__lock": ""}, Installer.UV, "needs the file pyproject.toml"),
            ({"pyproject__toml": PROJECT}, Installer.UV, "needs the file uv.lock"),
            ({"pyproject__toml": "[tool.ruff]\n"}, Installer.AUTO, r"has no \[project\] that says what to install"),
            ({"pyproject__toml": "[project\n"}, Installer.AUTO, "pyproject.toml cannot be read: Expected"),
            ({"pyproject__toml": PROJECT, "uv__lock": "x"}, Installer.AUTO, "uv.lock cannot be read: Expected"),
        ],
    )
    def test_what_is_not_there(self, tmp_path: Path, files: dict[str, str], wanted: Installer, message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            find(write(tmp_path, **files), wanted)


class TestPyproject:
    def test_packages_and_plain_code(self, tmp_path: Path) -> None:
        expected = Installation(Installer.PYPROJECT, ("pyproject.toml",))
        assert find(write(tmp_path, pyproject__toml=PROJECT)) == expected
        found = find(write(tmp_path, pyproject__toml=PROJECT + BUILT))
        assert (found.is_package, found.is_static) == (True, True)

    def test_dependencies_that_only_a_build_tells(self, tmp_path: Path) -> None:
        found = find(
            write(tmp_path, pyproject__toml='[project]\nname = "shop"\ndynamic = ["version", "dependencies"]\n')
        )
        assert (found.is_package, found.is_static) == (True, False)

    def test_src(self, tmp_path: Path) -> None:
        assert find(write(tmp_path, pyproject__toml=PROJECT, src_shop_worker__py="")).has_src

    def test_libraries_of_the_system(self, tmp_path: Path) -> None:
        assert find(write(tmp_path, pyproject__toml=PROJECT)).libraries == ()
        assert find(write(tmp_path, pyproject__toml=UPLOADS)).libraries == ("libmagic1",)


class TestUv:
    def test_libraries_of_the_system(self, tmp_path: Path) -> None:
        lock = '[[package]]\nname = "aijobs"\nsource = {{ registry = "x" }}\n\n[[package]]\nname = "{}"\n'
        assert find(write(tmp_path, pyproject__toml=PROJECT, uv__lock=lock.format("celery"))).libraries == ()
        assert find(write(tmp_path, uv__lock=lock.format("python-magic"))).libraries == ("libmagic1",)

    def test_what_comes_from_the_project_is_needed_early(self, tmp_path: Path) -> None:
        lock = "\n".join(
            f'[[package]]\nname = "p{position}"\nsource = {{ {source} }}\n'
            for position, source in enumerate(
                [
                    'registry = "https://pypi.org/simple"',
                    'virtual = "."',
                    'path = "vendor/a.whl"',
                    'directory = "libs/b"',
                    'editable = "libs/b"',
                    'git = "https://example.com/c.git"',
                ]
            )
        )
        write(tmp_path, pyproject__toml=PROJECT, uv__lock=lock, vendor_a__whl="", libs_b_pyproject__toml="")
        assert find(tmp_path).needs == ("libs/b", "pyproject.toml", "uv.lock", "vendor/a.whl")

    @pytest.mark.parametrize(
        ("text", "is_package"),
        [
            (PROJECT, False),
            (PROJECT + BUILT, True),
            (PROJECT + BUILT + "[tool.uv]\npackage = false\n", False),
            (PROJECT + "[tool.uv]\npackage = true\n", True),
        ],
    )
    def test_a_package_is_what_uv_takes_for_one(self, tmp_path: Path, text: str, is_package: bool) -> None:
        assert find(write(tmp_path, pyproject__toml=text, uv__lock="")).is_package is is_package


class TestRequirements:
    def needs(self, root: Path, text: str) -> tuple[str, ...]:
        write(root, vendor_a__whl="", libs_b_setup__py="", c__tar__gz="")
        return find(write(root, requirements__txt=text)).needs

    def test_alone(self, tmp_path: Path) -> None:
        lines = [
            "# all",
            "--index-url https://example.com/simple",
            "aijobs>=0.1  # jobs",
            "uvicorn[standard]>=0.30; os_name == 'posix'",
            "x @ https://example.com/x.whl",
        ]
        assert self.needs(tmp_path, "\n".join(lines)) == ("requirements.txt",)

    @pytest.mark.parametrize(
        ("line", "path"),
        [
            ("./vendor/a.whl", "vendor/a.whl"),
            ("vendor/a.whl", "vendor/a.whl"),
            ("vendor/a.whl --hash=sha256:0", "vendor/a.whl"),
            ("./vendor/a.whl ; python_version > '3'", "vendor/a.whl"),
            ("./libs/b[all]", "libs/b"),
            ("-e ./libs/b  # ours", "libs/b"),
            ("--editable=libs/b", "libs/b"),
            ("b @ file:libs/b", "libs/b"),
            ("c.tar.gz", "c.tar.gz"),
        ],
    )
    def test_local_packages(self, tmp_path: Path, line: str, path: str) -> None:
        assert self.needs(tmp_path, f"aijobs\n{line}\n") == tuple(sorted(("requirements.txt", path)))

    @pytest.mark.parametrize(
        "line",
        [
            "aijobs[uploads]",
            "aijobs [webhooks, uploads] >=0.1; python_version > '3'",
            "aijobs[uploads] @ https://example.com/aijobs.whl",
            "-e ./libs/aijobs[uploads]",
            "./vendor/aijobs-0.1.0-py3-none-any.whl[uploads]",
            "python-magic==0.4.27 --hash=sha256:0  # via aijobs",
            "Python_Magic",
        ],
    )
    def test_libraries_of_the_system(self, tmp_path: Path, line: str) -> None:
        write(tmp_path, **{"libs_aijobs_setup__py": "", "vendor_aijobs-0__1__0-py3-none-any__whl": ""})
        write(tmp_path, requirements__txt="-r more.txt\n", more__txt=f"uvicorn\n{line}\n")
        assert find(tmp_path).libraries == ("libmagic1",)

    @pytest.mark.parametrize(
        "line", ["aijobs[dev]", "# aijobs[uploads]", "shop[uploads]", "python-magic-bin", "x-aijobs[uploads]"]
    )
    def test_libraries_that_nothing_needs(self, tmp_path: Path, line: str) -> None:
        assert find(write(tmp_path, requirements__txt=f"aijobs\n{line}\n")).libraries == ()

    def test_libraries_of_a_project_that_names_itself(self, tmp_path: Path) -> None:
        found = find(write(tmp_path, pyproject__toml=UPLOADS + BUILT, requirements__txt="-e .\n"))
        assert found.libraries == ("libmagic1",)

    @pytest.mark.parametrize("line", ["-e .", ".", "-e .[all]"])
    def test_the_project_itself(self, tmp_path: Path, line: str) -> None:
        assert self.needs(tmp_path, line) == (".",)

    def test_files_that_are_included(self, tmp_path: Path) -> None:
        write(tmp_path, requirements_base__txt="-c ../limits.txt\n-r requirements/more.txt\n")
        (tmp_path / "requirements/base.txt").write_text("-c limits.txt\n--requirement=more.txt\n-r base.txt\n")
        (tmp_path / "requirements/limits.txt").write_text("celery<6\n")
        (tmp_path / "requirements/more.txt").write_text("-r https://example.com/all.txt\nuvicorn\\\n>=0.30\n")
        assert self.needs(tmp_path, "-rrequirements/base.txt\n") == (
            "requirements.txt",
            "requirements/base.txt",
            "requirements/limits.txt",
            "requirements/more.txt",
        )

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("-r ../other.txt", "requirements.txt names '../other.txt', which is outside of"),
            ("/opt/a.whl", "names '/opt/a.whl', which is outside of"),
            ("~/a.whl", "names '~/a.whl', which is outside of"),
            ("-e ./libs/../..", "is outside of"),
            ("./outside", "is outside of"),
            ("-r none.txt", "names 'none.txt', which .* has not"),
            ("-r 'none.txt'", "names \"'none.txt'\", which .* has not"),
            ("./$(id)", "a path for an image takes letters, digits and the characters"),
            ("-e 'libs", "which .* has not"),
        ],
    )
    def test_what_an_image_cannot_have(self, tmp_path: Path, line: str, message: str) -> None:
        write(tmp_path, **{"$(id)": ""})
        (tmp_path / "outside").symlink_to("/")
        with pytest.raises(ConfigurationError, match=message):
            self.needs(tmp_path, line)

    def test_what_is_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "requirements.txt").write_bytes(b"\xff")
        with pytest.raises(ConfigurationError, match=r"requirements\.txt cannot be read"):
            find(tmp_path)
