import ast
import graphlib
import sys

import pytest

from simple_llm.arithmetic.digits import DIGIT_ALPHABET
from simple_llm.model.tokenization_simple_llm import DIGITS
from tests.pipeline import REPOSITORY

pytestmark = pytest.mark.library

SCRIPTS = {path.stem: path for path in REPOSITORY.glob("*.py")}
PACKAGE = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (REPOSITORY / "simple_llm").rglob("*.py")
}
MAY_IMPORT_SCRIPTS = {"tests", "runs", "benchmarks"}


def imported(path, only_module_level=False):
    """Full names of the modules that a file imports."""
    tree = ast.parse(path.read_text())
    names = set()
    for node in tree.body if only_module_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (inner & PACKAGE.keys()) or {node.module}
    return names


def top_levels(path):
    return {name.split(".")[0] for name in imported(path)}


def repository_files():
    folders = [path for path in REPOSITORY.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return [*SCRIPTS.values(), *(path for folder in folders for path in folder.rglob("*.py"))]


def test_the_files_are_where_these_tests_look_for_them():
    assert {"data_generator", "tokenizer", "trainer", "inference", "evaluate", "visualize"} <= SCRIPTS.keys()
    assert {"simple_llm", "simple_llm.config.settings", "simple_llm.data.problems"} <= PACKAGE.keys()
    assert "simple_llm.data.split" in imported(SCRIPTS["data_generator"])


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_every_script_stands_on_the_package_and_on_no_other_script(name):
    assert "simple_llm" in top_levels(SCRIPTS[name])
    assert not top_levels(SCRIPTS[name]) & SCRIPTS.keys()


def test_only_tests_runs_and_benchmarks_import_a_script():
    importers = {
        path.relative_to(REPOSITORY).parts[0] for path in repository_files() if top_levels(path) & SCRIPTS.keys()
    }
    assert importers <= MAY_IMPORT_SCRIPTS
    assert "tests" in importers


def test_the_package_imports_nothing_of_the_project_but_itself():
    others = {path.name for path in REPOSITORY.iterdir() if path.is_dir()} - {"simple_llm"} | SCRIPTS.keys()
    assert {name: top_levels(path) & others for name, path in PACKAGE.items() if top_levels(path) & others} == {}


def test_the_package_has_no_import_cycle():
    graph = {name: imported(path, only_module_level=True) & PACKAGE.keys() for name, path in PACKAGE.items()}
    assert sum(map(len, graph.values())) > len(graph)  # there are edges to go round in
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("name", ["modeling_simple_llm", "tokenization_simple_llm"])
def test_a_file_that_travels_with_the_model_needs_nothing_of_the_project(name):
    assert not {"simple_llm", *SCRIPTS} & top_levels(PACKAGE[f"simple_llm.model.{name}"])


def test_the_two_alphabets_are_one():
    assert DIGIT_ALPHABET == DIGITS


def test_no_script_shadows_a_module_of_the_standard_library():
    assert not SCRIPTS.keys() & sys.stdlib_module_names
