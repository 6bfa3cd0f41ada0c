import json
import os
import shutil
import sqlite3
import sys
from pathlib import Path

import huggingface_hub
import pytest

from simple_llm.errors import UsageError
from simple_llm.training.metrics import require_tracker, run_name, tracking
from tests.conftest import Called
from tests.finished_run import make_unfinished
from tests.forked import fork_script

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("blank_pictures")]


def train_tracked(run_folder: Path, home: Path, *options: str) -> Called:
    """Train in a process without a network, with what trackio keeps in `home`."""

    def offline():
        os.environ.update(HF_HUB_OFFLINE="1", TRACKIO_DIR=str(home / "trackio"))
        huggingface_hub.constants.HF_HUB_OFFLINE = True

    return fork_script("trainer.py", *options, "training.report_to=trackio", cwd=run_folder, before=offline).end()


def test_a_run_is_tracked_offline_and_its_result_stays_the_last_line(run_folder, tmp_path):
    before = (run_folder / "model" / "model.safetensors").read_bytes()
    done = train_tracked(run_folder, tmp_path, "--fresh", "--json")
    assert done.exit_code == 0, done.stderr
    assert (run_folder / "model" / "model.safetensors").read_bytes() == before  # who tracks does not change the run
    assert json.loads(done.stdout.splitlines()[-1])["path"] == "model"
    assert len(done.stdout.splitlines()) == 2
    [rows] = tracked_runs(tmp_path / "trackio").values()
    tracked = [(step, json.loads(numbers)) for step, numbers in rows]
    lines = [json.loads(line) for line in (run_folder / "model" / "metrics.jsonl").read_text().splitlines()]
    written = [
        (line.pop("step"), {key: one for key, one in line.items() if not isinstance(one, dict)}) for line in lines
    ]
    assert tracked == written
    assert {"loss", "num_correct"} <= {key for _, numbers in tracked for key in numbers}


def test_a_run_that_goes_on_has_one_curve_and_one_that_starts_anew_another(run_folder, tmp_path):
    model = run_folder / "model"
    steps = []
    for option in (["--fresh"], [], ["--fresh"]):
        if not option:
            make_unfinished(run_folder)
            shutil.rmtree(model / "checkpoints" / "step-12")
        done = train_tracked(run_folder, tmp_path, *option)
        assert done.exit_code == 0, done.stderr
        steps.append([[step for step, _ in rows] for rows in tracked_runs(tmp_path / "trackio").values()])
    whole, again = [0, 4, 8, 10, 12], [10, 12]  # a step has a loss, an evaluation or both
    assert steps == [[whole], [whole + again], [whole + again, whole]]


def test_runs_in_two_folders_of_one_name_are_two(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_name(tmp_path / "a" / "model") != run_name(tmp_path / "b" / "model")
    assert run_name(tmp_path / "a" / "model") == run_name(Path("a") / "model")
    assert run_name(Path("a") / "model").startswith("model-")


def tracked_runs(folder):
    """Steps and numbers that trackio stored, by run, the oldest first."""
    runs = {}
    with sqlite3.connect(folder / "simple-llm.db") as database:
        for run_id, *row in database.execute("SELECT run_id, step, metrics FROM metrics ORDER BY id"):
            runs.setdefault(run_id, []).append(row)
    return runs


def test_a_tracker_that_is_not_installed_is_named_before_training(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    with pytest.raises(UsageError, match="report_to is trackio and that package is not installed"):
        require_tracker("trackio")
    require_tracker("none")


def test_nothing_is_imported_unless_it_was_chosen(finished_run, tmp_path):
    told = finished_run.done["trainer.py"].stderr
    assert "matplotlib" in told  # which shows that imports are told
    assert not [line for line in told.splitlines() if line.endswith(("trackio", "wandb", "tensorboard"))]
    with tracking("none", tmp_path / "nothing", {}, goes_on=False) as track:
        track(1, {"loss": 2.0})
    assert not (tmp_path / "nothing").exists()
