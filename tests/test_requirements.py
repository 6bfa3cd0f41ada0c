"""The versions: what is installed is what was tested, and each of them is written in one place."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.pipeline import REPOSITORY


def lines_of(name):
    lines = (REPOSITORY / name).read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def requirements(*names):
    return [Requirement(line) for name in names for line in lines_of(name) if not line.startswith("-r ")]


REQUIREMENTS = requirements(*sorted(path.name for path in REPOSITORY.glob("requirements*.txt")))
CONSTRAINTS = dict(line.split("==") for line in lines_of("constraints.txt"))


def version_of(requirement):
    return Version(CONSTRAINTS[canonicalize_name(requirement.name)])


# ---- Ranges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_a_range_ends_right_after_the_minor_that_was_tested(requirement):
    bounds = {one.operator: one.version for one in requirement.specifier}
    version = version_of(requirement)
    assert version in requirement.specifier
    if requirement.name == "torch":  # another release trains other weights from the same seed
        assert bounds == {"==": str(version)}
    else:
        assert bounds.keys() == {">=", "<"}
        assert bounds["<"] == f"{version.major}.{version.minor + 1}"


def test_a_package_is_required_once():
    names = [canonicalize_name(requirement.name) for requirement in REQUIREMENTS]
    assert len(names) == len(set(names)) > 15
    assert {line for line in lines_of("requirements-dev.txt") if line.startswith("-r ")} == {
        f"-r {path.name}" for path in REPOSITORY.glob("requirements*.txt") if path.name != "requirements-dev.txt"
    }


def test_constraints_are_exact_sorted_and_of_no_build_or_place():
    lines = lines_of("constraints.txt")
    assert lines == [f"{canonicalize_name(name)}=={Version(version).public}" for name, version in CONSTRAINTS.items()]
    assert list(CONSTRAINTS) == sorted(CONSTRAINTS)
    text = "".join((REPOSITORY / name).read_text() for name in ("constraints.txt", "requirements-dev.txt"))
    assert not re.search(r"://|--|\+|@", text)


# ---- The package ----------------------------------------------------------------------------------


def test_requires_python_is_the_oldest_that_is_tested():
    workflow = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "test.yml").read_text())
    pythons = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert pythons == sorted(pythons, key=Version)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == f">={pythons[0]}"
    assert project["tool"]["ruff"]["target-version"] == f"py{pythons[0].replace('.', '')}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of this repository, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "docs", "*.egg-info")
    copy = shutil.copytree(REPOSITORY, folder / "copy", ignore=unwanted)
    build = "import setuptools.build_meta as backend; print(backend.build_wheel('..'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(folder / done.stdout.splitlines()[-1]) as archive:
        yield archive


def test_an_installed_package_requires_what_the_files_say(wheel):
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(wheel.read(name).decode())
    required = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    always = {str(one) for one in required if one.marker is None}
    assert always == {str(one) for one in requirements("requirements.txt")}
    web = {f"{one.name}{one.specifier}" for one in required if one.marker and one.marker.evaluate({"extra": "web"})}
    assert web == {str(one) for one in requirements("requirements-web.txt")}
    assert metadata["Provides-Extra"] == "web"


def test_an_installed_package_has_every_file(wheel):
    folder = REPOSITORY / "simple_llm"
    files = {path.relative_to(REPOSITORY).as_posix() for path in folder.rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == files
