"""The versions: what is installed is what was tested, and each of them is written in one place."""

import ast
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

from simple_llm.model.places_simple_llm import TESTED_WITH
from simple_llm.model.tokenization_simple_llm import TESTED_TRANSFORMERS
from tests.pipeline import REPOSITORY

pytestmark = pytest.mark.library

LIBRARY = ("transformers", "tokenizers", "huggingface_hub")


def lines_of(name):
    lines = (REPOSITORY / name).read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def requirements(*names):
    return [Requirement(line) for name in names for line in lines_of(name) if not line.startswith("-r ")]


REQUIREMENTS = requirements(*sorted(path.name for path in REPOSITORY.glob("requirements*.txt")))
CONSTRAINTS = dict(line.split("==") for line in lines_of("constraints.txt"))
MAKEFILE = (REPOSITORY / "Makefile").read_text()


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
        "-r requirements.txt",
        "-r requirements-web.txt",  # and not those of tuning, of which one test each is skipped without
    }


def test_constraints_are_exact_sorted_and_of_no_build_or_place():
    lines = lines_of("constraints.txt")
    assert lines == [f"{canonicalize_name(name)}=={Version(version).public}" for name, version in CONSTRAINTS.items()]
    assert list(CONSTRAINTS) == sorted(CONSTRAINTS)
    text = "".join((REPOSITORY / name).read_text() for name in ("constraints.txt", "requirements-dev.txt"))
    assert not re.search(r"://|--|\+|@", text)


def test_the_oldest_transformers_that_is_allowed_is_the_one_that_is_tested():
    [range_] = [one.specifier for one in REQUIREMENTS if one.name == "transformers"]
    assert {one.version for one in range_ if one.operator == ">="} == {"5.23"}
    [taken] = re.findall(r"sed -nE 's/\^\(([a-z_|]+)\)>=", MAKEFILE)
    assert taken.split("|") == list(LIBRARY)
    assert set(LIBRARY) <= {one.name for one in REQUIREMENTS}


def test_the_code_that_travels_knows_the_releases_that_were_tested():
    [range_] = [one.specifier for one in REQUIREMENTS if one.name == "transformers"]
    [oldest] = [one.version for one in range_ if one.operator == ">="]
    releases = TESTED_WITH["transformers"]
    assert releases == TESTED_TRANSFORMERS == tuple(sorted(releases, key=Version))
    assert (releases[0], releases[-1]) == (f"{oldest}.0", CONSTRAINTS["transformers"])
    assert all(release in range_ for release in releases)
    assert TESTED_WITH["torch"] == (CONSTRAINTS["torch"],)


def test_what_is_installed_by_make_and_in_workflows_is_what_was_tested():
    assert "-c constraints.txt -r requirements-dev.txt" in MAKEFILE
    for name in ("test", "newest"):
        [job] = yaml.safe_load((REPOSITORY / ".github" / "workflows" / f"{name}.yml").read_text())["jobs"].values()
        assert [step["with"]["cache-dependency-path"] for step in job["steps"] if "with" in step] == ["constraints.txt"]
        assert not [step["run"] for step in job["steps"] if "pip" in step.get("run", "")]
    assert (REPOSITORY / ".ci" / "run").read_text().endswith("make test\nmake test-oldest\n")


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
    for extra in metadata.get_all("Provides-Extra"):
        named = {
            f"{one.name}{one.specifier}" for one in required if one.marker and one.marker.evaluate({"extra": extra})
        }
        assert named == {str(one) for one in requirements(f"requirements-{extra}.txt")}
    assert sorted(metadata.get_all("Provides-Extra")) == ["tuning", "web"]


def test_an_installed_package_has_every_file(wheel):
    folder = REPOSITORY / "simple_llm"
    files = {path.relative_to(REPOSITORY).as_posix() for path in folder.rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == files


# ---- The tests that run with the oldest version as well -------------------------------------------


def touched(tree):
    """What of the library a file imports, itself or as our classes that stand on it; `generate`, if it calls that."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", "")]
            yield from (name for name in names if name.split(".")[0] in LIBRARY or name.endswith("_simple_llm"))
        elif isinstance(node, ast.Attribute) and node.attr == "generate":
            yield "generate"


def is_marked(tree):
    """Whether the module's `pytestmark` has the marker `library`."""
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    marks = [node.value for node in assigned if [ast.unparse(one) for one in node.targets] == ["pytestmark"]]
    return any("pytest.mark.library" in ast.unparse(mark) for mark in marks)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "tests").glob("test_*.py")), ids=lambda path: path.stem)
def test_what_touches_the_library_runs_with_its_oldest_version_too(path):
    tree = ast.parse(path.read_text())
    names = sorted({*touched(tree)})
    assert is_marked(tree) or not names, f"needs `pytestmark = pytest.mark.library`: it has {', '.join(names)}"
