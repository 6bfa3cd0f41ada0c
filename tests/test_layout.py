"""Where things are and who may import whom: districts that stand on one another, with no way up and no way round."""

import ast
import graphlib
import re
import sys
from pathlib import Path

import pytest

from simple_llm.arithmetic import OPERATIONS
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.digits import DIGIT_ALPHABET, NEGATIVE
from simple_llm.files import names as file_names
from simple_llm.model import notation_simple_llm
from simple_llm.model.notation_simple_llm import DELIMITER, DIGITS, OPERATORS
from tests.pipeline import REPOSITORY

pytestmark = pytest.mark.library

SCRIPTS = {path.stem: path for path in REPOSITORY.glob("*.py")}
MAY_IMPORT_SCRIPTS = {"tests", "runs", "benchmarks"}

# A district is a folder of simple_llm, or a file beside them. Here is what each may import besides itself; scripts,
# runs, web, tests and benchmarks stand above all of them.
GROUND = {"errors", "files", "machine", "processes", "run_log", "stopping"}
BELOW_DATA = {"arithmetic", "config", *GROUND}
BELOW_MODEL = {"data", *BELOW_DATA}
BELOW_EVALUATION = {"model", *BELOW_MODEL}
BELOW_THE_TOP = {"evaluation", *BELOW_EVALUATION}
MAY_IMPORT = {
    "errors": set(),
    "arithmetic": set(),
    "config": {"arithmetic", "errors"},
    **{name: GROUND - {name} for name in sorted(GROUND - {"errors"})},
    "command_line": BELOW_DATA,
    "data": BELOW_DATA,
    "model": BELOW_MODEL,
    "evaluation": BELOW_EVALUATION,
    "training": BELOW_THE_TOP,
    "proof": BELOW_THE_TOP,
    "sharing": BELOW_THE_TOP,
}
# Progress bars and signals stay at the rim: who works below is told what to call after each batch.
ONLY_IMPORTED_BY = {"tqdm": {"stopping"}, "signal": {"stopping", "command_line"}}
# Imports that break these rules today. One more fails, and so does one that is mended and still stands here.
NOT_YET: set[tuple[str, str]] = set()
MOST_FILES_AT_THE_ROOT, FEWEST_FOLDERS = 9, 8
MODEL = "simple_llm.model"  # where they lie
TRAVELLING = ("modeling_simple_llm", "tokenization_simple_llm", "pipeline_simple_llm", "verify")
TRAVELLING += ("places_simple_llm", "notation_simple_llm")  # beside which those import them
NAMES_OF_FILES = {
    name
    for key, value in vars(file_names).items()
    for name in (value if isinstance(value, tuple) else [value])
    if key.isupper()
}


def modules_in(root: Path) -> dict[str, Path]:
    """The package's modules below a folder by their full names; a folder's own module is its __init__."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (root / "simple_llm").rglob("*.py")
    }


PACKAGE = modules_in(REPOSITORY)


def imported(path, modules=PACKAGE, only_module_level=False):
    """Full names of the modules that a file imports."""
    tree = ast.parse(path.read_text())
    names = set()
    for node in tree.body if only_module_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = f"{MODEL}.{node.module}" if node.level else node.module
            assert node.level == 0 or (node.level == 1 and path.stem in TRAVELLING), f"{path}: a relative import"
            inner = {f"{source}.{alias.name}" for alias in node.names}
            names |= (inner & modules.keys()) or {source}
    return names


def graph_of(modules, only_module_level=False):
    """What each of some modules imports, of the package or not."""
    return {name: imported(path, modules, only_module_level) for name, path in modules.items()}


def top_levels(path):
    return {name.split(".")[0] for name in imported(path)}


def district(module: str) -> str:
    """simple_llm.data.rows is of data, simple_llm.errors of errors; simple_llm itself, free to all, is of none."""
    return [*module.split("."), ""][1]


def breaches(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """The imports, as pairs of importer and imported, that the rules above do not allow."""
    found = set()
    for importer, names in graph.items():
        own = district(importer)
        for name in names:
            top = name.split(".")[0]
            if top == "simple_llm":
                is_allowed = district(name) in {"", own, *MAY_IMPORT.get(own, ())}
            else:
                is_allowed = own in ONLY_IMPORTED_BY.get(top, {own})
            if not is_allowed:
                found.add((importer, name))
    return found


def cycle_in(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a ring, the first one again at the end; empty where there is none."""
    own = {name: names & graph.keys() for name, names in graph.items()}
    try:
        list(graphlib.TopologicalSorter(own).static_order())
    except graphlib.CycleError as error:
        return error.args[1]
    return []


COPIES = REPOSITORY / "models"  # of what travels with a model


def repository_files():
    folders = [path for path in REPOSITORY.iterdir() if path.is_dir() and path.name[0] != "." and path != COPIES]
    return [*SCRIPTS.values(), *(path for folder in folders for path in folder.rglob("*.py"))]


# ---- The files ------------------------------------------------------------------------------------


def test_the_files_are_where_these_tests_look_for_them():
    assert {"data_generator", "tokenizer", "trainer", "inference", "evaluate", "visualize"} <= SCRIPTS.keys()
    assert {"simple_llm", "simple_llm.config.settings", "simple_llm.data.problems"} <= PACKAGE.keys()
    assert "simple_llm.data.split" in imported(SCRIPTS["data_generator"])
    assert not list((REPOSITORY / "simple_llm").glob("*/*/*.py"))  # two levels


def test_the_package_is_some_districts_and_few_files_beside_them():
    root = REPOSITORY / "simple_llm"
    assert len(list(root.glob("*.py"))) <= MOST_FILES_AT_THE_ROOT
    assert len(list(root.glob("*/__init__.py"))) >= FEWEST_FOLDERS
    assert {path.parent for path in root.glob("*/*.py")} == {path.parent for path in root.glob("*/__init__.py")}


def test_a_folder_has_no_code_of_its_own():
    own = {name for name, path in PACKAGE.items() if path.name == "__init__.py" and path.read_text()}
    assert own == {
        "simple_llm",
        "simple_llm.arithmetic",
    }  # the version and how threads wait; the registry of operations


# ---- Names of files -------------------------------------------------------------------------------


def spelled_out(path: Path) -> set[str]:
    """The names of a model folder's files that a file spells out where it means the file; a docstring, a message and a
    line of help may say one to people.
    """
    tree = ast.parse(path.read_text())
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in said}
    return {text.rpartition("/")[2] for text in texts if isinstance(text, str)} & NAMES_OF_FILES


def test_the_name_of_a_file_is_spelled_out_in_one_place():
    others = [path for path in repository_files() if path.relative_to(REPOSITORY).parts[0] != "tests"]
    homes = {PACKAGE[f"simple_llm.{name}"] for name in ("files.names", *(f"model.{one}" for one in TRAVELLING))}
    assert {path: spelled_out(path) for path in others if path not in homes and spelled_out(path)} == {}
    assert spelled_out(PACKAGE["simple_llm.files.names"]) == NAMES_OF_FILES >= {"config.json", "data_config.yaml"}


@pytest.mark.parametrize("name", sorted(NAMES_OF_FILES))
def test_a_planted_name_of_a_file_is_found(tmp_path, name):
    path = tmp_path / "planted.py"
    for code in (f"folder / {name!r}", f"f'{{folder}}/{name}'", f"{{'model/{name}': 1}}", f"[{name!r}]"):
        path.write_text(f'"""Reads {name}."""\nx = {code}\n')
        assert spelled_out(path) == {name}, code
    for code in (f'"""{name}"""', f"def f():\n    {name!r}", f"x = 'reads {name}, as used'", f"x = {name + 'x'!r}"):
        path.write_text(code)
        assert spelled_out(path) == set(), code


# ---- Who may import whom --------------------------------------------------------------------------


def test_every_district_has_its_row_and_every_row_its_district():
    assert {district(name) for name in PACKAGE} - {""} == MAY_IMPORT.keys()
    assert {name for row in MAY_IMPORT.values() for name in row} <= MAY_IMPORT.keys()


def test_the_rows_allow_no_way_round_but_on_the_ground():
    above = {name: row - GROUND if name in GROUND else row for name, row in MAY_IMPORT.items()}
    assert cycle_in(above) == []


def test_nothing_is_imported_that_may_not_be():
    assert breaches(graph_of(PACKAGE)) == NOT_YET


@pytest.mark.parametrize("importer", MAY_IMPORT)
def test_an_import_that_a_row_does_not_allow_is_found(importer):
    for other in MAY_IMPORT:
        edge = f"simple_llm.{importer}.planted", f"simple_llm.{other}.wanted"
        is_allowed = other == importer or other in MAY_IMPORT[importer]
        assert breaches({edge[0]: {edge[1], "simple_llm"}}) == (set() if is_allowed else {edge}), edge


@pytest.mark.parametrize("importer", MAY_IMPORT)
def test_a_bar_and_a_signal_below_the_rim_are_found(importer):
    planted = f"simple_llm.{importer}.planted"
    for name, allowed in ONLY_IMPORTED_BY.items():
        assert breaches({planted: {name, "json"}}) == (set() if importer in allowed else {(planted, name)})


@pytest.mark.parametrize(
    "line",
    [
        "import simple_llm.training.run",
        "from simple_llm.training import run",
        "from simple_llm.training.run import Run",
        "def later():\n    from simple_llm.training import run",
    ],
)
def test_however_a_planted_file_imports_what_is_above_it_it_is_found(tmp_path, line):
    for name in ("training/run.py", "data/planted.py"):
        path = tmp_path / "simple_llm" / name
        path.parent.mkdir(parents=True)
        path.write_text(line if path.stem == "planted" else "")
    assert breaches(graph_of(modules_in(tmp_path))) == {("simple_llm.data.planted", "simple_llm.training.run")}


def test_the_package_imports_nothing_of_the_project_but_itself():
    others = {path.name for path in REPOSITORY.iterdir() if path.is_dir()} - {"simple_llm"} | SCRIPTS.keys()
    assert {name: top_levels(path) & others for name, path in PACKAGE.items() if top_levels(path) & others} == {}


def test_the_package_has_no_import_cycle():
    graph = graph_of(PACKAGE, only_module_level=True)
    assert sum(len(names & graph.keys()) for names in graph.values()) > len(graph)  # there are edges to go round in
    assert cycle_in(graph) == []


def test_a_planted_cycle_is_found():
    graph = graph_of(PACKAGE, only_module_level=True)
    graph["simple_llm.files.names"] = graph["simple_llm.files.names"] | {"simple_llm.files.ours"}
    assert set(cycle_in(graph)) == {"simple_llm.files.names", "simple_llm.files.ours"}


# ---- What stands alone ----------------------------------------------------------------------------


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


@pytest.mark.parametrize("name", [name for name in PACKAGE if district(name) == "arithmetic"])
def test_arithmetic_needs_numpy_alone(name):
    assert top_levels(PACKAGE[name]) - sys.stdlib_module_names <= {"numpy", "simple_llm"}


# ---- The rule of an operation ---------------------------------------------------------------------

# Files that say what an operation is: each its own. The two that travel with a model import nothing of the project, so
# they say once more what they have to know of symbols, and a test below holds them to the registry.
OPERATION_FILES = {f"simple_llm.arithmetic.{one.title}" for one in OPERATIONS}
# Names of what a column hands to the next: they may be passed on, counted and drawn, and are worked out in one place.
ALLOWED = {
    "simple_llm.arithmetic.digits": ["'-'"],  # of numbers below zero
    "simple_llm.arithmetic.integers": ["value >= base"],  # counts digits
    "simple_llm.command_line": ["'*'"],  # any number of arguments
    "simple_llm.sharing.fetching": ["'/'"],  # between whose a repository is and its name
    "simple_llm.sharing.hub": ["'/'"],
    "simple_llm.training.checkpoint": ["'/'"],  # between folders
}
WRITTEN = re.compile(
    rf"{{[^{{}}]*\bx\b[^{{}}]*}}[{re.escape(''.join(one.symbol for one in OPERATIONS))}]{{[^{{}}]*\by\b"
)
TEXT_METHODS = {"join", "split", "partition", "removeprefix", "startswith", "replace"}
CARRY = re.compile(r"^(carry|borrow)$|^(carry|borrow)_", re.IGNORECASE)


def rules_in(source: str) -> list[str]:
    """What a source knows of an operation: its symbol as text, x and y joined by it, or a carry that it works out."""
    tree = ast.parse(source)
    symbols, found, passed_over = {one.symbol for one in OPERATIONS}, [], set()
    for node in ast.walk(tree):  # documentation, and "-".join(...) or text.partition("-"), which are about other text
        if isinstance(node, ast.Expr):
            passed_over.add(node.value)
        if isinstance(node, ast.JoinedStr):
            passed_over |= set(node.values)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in TEXT_METHODS:
            passed_over |= {node.func.value, *(inner for one in node.args for inner in ast.walk(one))}
    for node in ast.walk(tree):
        names = {getattr(part, "id", getattr(part, "attr", "")) for part in ast.iter_child_nodes(node)}
        is_symbol = isinstance(node, ast.Constant) and node.value in symbols and node not in passed_over
        is_symbol |= isinstance(node, ast.JoinedStr) and bool(WRITTEN.search(ast.unparse(node)))
        is_sum = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub)
        is_sum &= names >= {"x", "y"} or any(map(CARRY.match, names))
        is_limit = isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.GtE | ast.Lt) and "base" in names
        if is_symbol or is_sum or is_limit:
            found.append(ast.unparse(node))
    return found


def test_no_file_but_its_own_knows_the_rule_of_an_operation():
    others = PACKAGE.keys() - OPERATION_FILES - {f"simple_llm.model.{name}" for name in TRAVELLING}
    assert {name: found for name in sorted(others) if (found := rules_in(PACKAGE[name].read_text()))} == ALLOWED
    for name in OPERATION_FILES:
        assert rules_in(PACKAGE[name].read_text())


@pytest.mark.parametrize(
    "planted",
    [
        "carry = digits + carry",
        "z = x + y",
        "z = x - y",
        "next = total >= base",
        "print(str(1) + '-' + str(2))",
        "borrow_in = place - borrow_out",
        "made = self.total < self.base",
        "print(f'{x}+{y}')",
        "print(f'{row.x}-{row.y}=')",
    ],
)
def test_a_planted_rule_is_found(planted):
    assert rules_in(planted)


def test_the_files_that_travel_know_the_symbols_of_the_registry():
    assert set(OPERATORS) == {one.symbol for one in OPERATIONS}
    assert OPERATORS[0] == DELIMITER == ADDITION.symbol
    assert notation_simple_llm.NEGATIVE == NEGATIVE


@pytest.mark.parametrize("name", TRAVELLING)
def test_a_file_that_travels_with_the_model_needs_nothing_of_the_project(name):
    needed = imported(PACKAGE[f"{MODEL}.{name}"]) - {f"{MODEL}.{one}" for one in TRAVELLING}
    assert not {"simple_llm", *SCRIPTS} & {one.split(".")[0] for one in needed}


def test_the_two_alphabets_are_one():
    assert DIGIT_ALPHABET == DIGITS


def test_no_script_shadows_a_module_of_the_standard_library():
    assert not SCRIPTS.keys() & sys.stdlib_module_names
