"""What CONTRIBUTING.md, CHANGELOG.md and the issue forms say of the repository is so."""

import ast
import re

import pytest
import yaml

from simple_llm import __version__
from tests.pipeline import REPOSITORY

CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text()
FORMS = sorted((REPOSITORY / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))  # config.yml is none
SIGNS_OF_OPERATIONS = {"PLUS", "MINUS", "TIMES", "OVER"}


def named_files(text):
    """The paths that a text has between backticks; one without a folder is in that of the path before it."""
    folder = ""
    for path in re.findall(r"`([\w./-]+(?:\.\w+|/))`", text):
        if (REPOSITORY / folder / path).exists() and "/" not in path:
            yield folder + path
        else:
            folder = path.rpartition("/")[0] + "/" if "/" in path else ""
            yield path


def test_every_file_that_contributing_names_is_there():
    names = [name for line in CONTRIBUTING.splitlines() for name in named_files(line)]
    assert len(names) > 40
    assert [name for name in names if not (REPOSITORY / name).exists()] == []


def test_contributing_names_every_file_that_tells_operations_on_paper_apart():
    named = set(named_files(CONTRIBUTING))
    for path in (REPOSITORY / "simple_llm").rglob("*.py"):
        imports = [one for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, ast.ImportFrom)]
        of_symbols = [one for one in imports if one.module == "simple_llm.arithmetic.symbols"]
        if SIGNS_OF_OPERATIONS & {alias.name for one in of_symbols for alias in one.names}:
            assert path.relative_to(REPOSITORY).as_posix() in named


def test_the_newest_version_of_the_changelog_is_that_of_the_package():
    versions = re.findall(r"^## (\d+\.\d+\.\d+)$", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == __version__
    assert versions == sorted(versions, key=lambda one: [*map(int, one.split("."))], reverse=True)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_is_one_that_github_takes(path):
    form = yaml.safe_load(path.read_text())
    assert {"name", "description", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert fields
    assert {field["type"] for field in fields} <= {"textarea", "input", "dropdown", "checkboxes"}
    assert all(field["attributes"]["label"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields)
