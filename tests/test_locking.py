import math
import os
import threading

import pytest

from simple_llm.errors import EnvironmentFault
from simple_llm.files.writing import exclusive
from tests.pipeline import REPOSITORY, run_python

HOLD = "import sys; from pathlib import Path; from simple_llm.files.writing import exclusive"
HOLD += "; lock = exclusive(Path('runs'))"


def test_a_second_holder_is_refused_and_told_who_holds_the_folder(tmp_path):
    refused = pytest.raises(EnvironmentFault, match=rf"in use by process {os.getpid()}$")
    with exclusive(tmp_path), refused, exclusive(tmp_path):
        pytest.fail("two holders")
    with exclusive(tmp_path):
        pass  # free again


def test_fault_14_another_process_is_refused(tmp_path):
    with exclusive(tmp_path / "runs"):
        done = run_python("-c", HOLD + "; lock.__enter__()", cwd=tmp_path, PYTHONPATH=str(REPOSITORY))
    assert f"is in use by process {os.getpid()}" in done.stderr


def test_fault_14_the_lock_of_a_process_that_died_is_free(tmp_path):
    done = run_python(
        "-c", HOLD + "; lock.__enter__(); import os; os.kill(os.getpid(), 9)", cwd=tmp_path, PYTHONPATH=str(REPOSITORY)
    )
    assert done.returncode == -9
    assert (tmp_path / "runs" / ".lock").read_text().isdigit()
    with exclusive(tmp_path / "runs"):
        assert (tmp_path / "runs" / ".lock").read_text() == str(os.getpid())


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="file/runs cannot be written"), exclusive(tmp_path / "file" / "runs"):
        pytest.fail("locked nothing")


def test_who_waits_comes_after_the_holder(tmp_path):
    order = []

    def wait():
        with exclusive(tmp_path, patience=math.inf):
            order.append("second")

    waiting = threading.Thread(target=wait)
    with exclusive(tmp_path):
        waiting.start()
        waiting.join(0.1)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]


def test_fault_31_a_lock_is_not_written_through_a_link(tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / ".lock").symlink_to(tmp_path / "mine")
    with pytest.raises(EnvironmentFault, match="runs cannot be written"), exclusive(tmp_path / "runs"):
        pytest.fail("locked")
    assert (tmp_path / "mine").read_text() == "precious"
