"""What travels with a model is one file each, which imports nothing of the project and names nothing twice."""

import ast
import sys
import types

import pytest

from simple_llm.files.names import MODEL_CODE, PIPELINE_CODE, TOKENIZER_CODE, VERIFY
from simple_llm.model.travelling import CODE_FOLDER, travelling_code


@pytest.mark.parametrize("name", [MODEL_CODE, TOKENIZER_CODE, PIPELINE_CODE, VERIFY])
def test_a_file_that_travels_imports_no_part(name):
    for node in ast.walk(ast.parse(travelling_code(name))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert "simple_llm" not in node.module


@pytest.mark.parametrize("name", [MODEL_CODE, TOKENIZER_CODE])
def test_the_parts_name_nothing_twice(name):
    named = []
    for node in ast.parse(travelling_code(name)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            named.append(node.name)
        elif isinstance(node, ast.Assign):
            named += [one.id for target in node.targets for one in ast.walk(target) if isinstance(one, ast.Name)]
    assert {one for one in named if named.count(one) > 1} == set()


@pytest.mark.parametrize("name", [PIPELINE_CODE, VERIFY])
def test_a_file_without_parts_travels_as_it_is(name):
    assert travelling_code(name) == (CODE_FOLDER / name).read_text("utf-8")


@pytest.mark.library
@pytest.mark.parametrize("name", [MODEL_CODE, TOKENIZER_CODE])
def test_a_file_that_travels_has_every_name_of_the_one_here(name, monkeypatch):
    here = __import__(f"simple_llm.model.{name.removesuffix('.py')}", fromlist=["x"])
    there = types.ModuleType("travelled")
    monkeypatch.setitem(sys.modules, "travelled", there)  # where dataclasses look for it
    exec(compile(travelling_code(name), name, "exec"), vars(there))
    assert vars(here).keys() - vars(there).keys() <= {"__builtins__", "__cached__", "__file__"}
