"""Who may read what is written: whom the umask lets, the same for every file."""

import os
import stat
from pathlib import Path

import pytest

from simple_llm.files.names import ATTENTION_OVERVIEW, EVALUATION
from tests.model_folders import write_model
from tests.test_checkpoint import Trained
from tests.tiny_models import make_data_config, make_train_config


@pytest.fixture(params=[0o022, 0o002, 0o077, 0o027, 0], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


def expected(folder: Path, umask: int) -> dict[str, int]:
    return {str(path.relative_to(folder)): (0o777 if path.is_dir() else 0o666) & ~umask for path in folder.rglob("*")}


def test_fault_38_all_files_of_a_model_folder_are_readable_alike(tmp_path, umask):
    write_model(tmp_path / "model", make_data_config(), make_train_config(2))
    assert "model/model.safetensors" in modes(tmp_path)
    assert modes(tmp_path) == expected(tmp_path, umask)


def test_fault_38_and_of_a_checkpoint(tmp_path, umask):
    Trained(num_steps=1).save(tmp_path / "checkpoints", 1)
    assert "checkpoints/step-1/optimizer.safetensors" in modes(tmp_path)
    assert modes(tmp_path) == expected(tmp_path, umask)


@pytest.mark.parametrize("umask", [0o027], indirect=True, ids=oct)
def test_fault_38_and_what_scripts_write_later_and_rows(run_folder, call_script, umask):
    there = {path: path.stat().st_ino for path in run_folder.rglob("*")}
    call_script("evaluate.py", "--model", "model", "--samples", "20", cwd=run_folder)
    call_script("visualize.py", "--model", "model", "1+2", cwd=run_folder)
    call_script("data_generator.py", "--force", cwd=run_folder)
    written = {
        str(path.relative_to(run_folder)) for path in run_folder.rglob("*") if there.get(path) != path.stat().st_ino
    }
    assert {f"model/{EVALUATION}", f"model/{ATTENTION_OVERVIEW}", "sequences.txt"} <= written
    assert {name: modes(run_folder)[name] for name in written} == {
        name: expected(run_folder, umask)[name] for name in written
    }
