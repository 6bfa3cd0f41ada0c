"""The ways that docs/HUB.md shows to load a calculator: each block of code is run as it stands, on a small model."""

import io
import re
import subprocess
from argparse import Namespace
from contextlib import redirect_stdout

import pytest

from simple_llm.arithmetic.digits import digits_of
from tests.browser import needs_npm
from tests.pipeline import REPOSITORY
from web import onnx_export, packages

pytestmark = pytest.mark.library

HUB = (REPOSITORY / "docs" / "HUB.md").read_text()
SECTION = HUB.partition("## A calculator in other software\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", SECTION, re.DOTALL)
BASE = 3  # of the model here; in docs it is 10


def question(*numbers):
    """A product as a model reads it, lowest digits first."""
    columns = (digits_of([number], BASE, 9)[:, 0].tolist() for number in numbers)
    return "".join("*" + "".join(map(str, digits)).rstrip("0") for digits in columns) + "|"


@pytest.fixture(scope="module")
def folder(on_paper, tmp_path_factory):
    """A model with its ONNX file beside it."""
    path = tmp_path_factory.mktemp("other") / "model.onnx"
    for file in on_paper("all four").iterdir():
        if file.is_file():
            (path.parent / file.name).write_bytes(file.read_bytes())
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()):
        patch.setattr(onnx_export, "NUM_PROBLEMS", 10)
        onnx_export.main(Namespace(model=str(path.parent), output=path))
    return path.parent


def block(language, number, folder):
    """One of the blocks, about the model here."""
    code = [code for one, code in BLOCKS if one == language][number]
    assert "../simple-llm-data/calculator" in code
    return code.replace("../simple-llm-data/calculator", str(folder)).replace("*75*64|", question(57, 46))


def said(code):
    """What Python prints."""
    with redirect_stdout(io.StringIO()) as output:
        exec(code, {})
    return output.getvalue()


def test_there_are_three_ways_and_the_one_by_onnx_takes_at_most_ten_lines():
    assert [language for language, _ in BLOCKS] == ["python", "python", "js"]
    assert len([line for line in BLOCKS[1][1].splitlines() if line.strip()]) <= 10


def test_a_pipeline_calculates(folder):
    assert said(block("python", 0, folder)) == "57*46=2622\n"


def test_onnx_in_python_calculates(folder):
    assert int(said(block("python", 1, folder)), BASE) == 57 * 46


@needs_npm
def test_onnx_in_javascript_calculates(folder, tmp_path):
    packages.copy_packages(tmp_path / "page")  # which installs them
    (tmp_path / "node_modules").symlink_to(packages.INSTALLED / "node_modules")
    script = tmp_path / "calculate.mjs"
    script.write_text(block("js", 0, folder))
    done = subprocess.run(["node", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout, BASE) == 57 * 46
