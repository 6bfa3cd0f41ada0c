"""docs/RELIABILITY.md says which tests hold each promise; here it is held to that."""

import re
from pathlib import Path

import pytest

from tests.pipeline import REPOSITORY

ROW = re.compile(r"^\| (\d+) \| [^|]+ \| [^|]+ \| ([a-z_, ]+) \|$", re.MULTILINE)
ROWS = {
    int(number): files.split(", ")
    for number, files in ROW.findall((REPOSITORY / "docs" / "RELIABILITY.md").read_text())
}


FAULTS = [*range(1, 34), 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46]


def test_every_fault_has_its_row():
    assert list(ROWS) == FAULTS


@pytest.mark.parametrize("number", FAULTS)
def test_every_file_named_in_a_row_has_a_test_of_that_number_and_no_other_file_has(number):
    name = re.compile(
        rf"^def test_(fault_\d\d_and_)*fault_{number:02}_|^def test_fault_\d\d_and_{number:02}_", re.MULTILINE
    )
    files = {
        path.stem.removeprefix("test_")
        for path in Path(__file__).parent.glob("test_*.py")
        if name.search(path.read_text())
    }
    assert files == set(ROWS[number])
