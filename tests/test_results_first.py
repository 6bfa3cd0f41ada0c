"""Weights and numbers are there whatever happens to what stands beside them: pictures, cards, reports, trackers."""

import json
import logging
import re
import shutil
import sys
from types import SimpleNamespace

import pytest

from simple_llm.evaluation import pictures
from simple_llm.files.names import CARD, CURVE
from simple_llm.files.sealed_folder import verified_manifest
from simple_llm.model import folder as folder_module
from simple_llm.sharing import model_card
from simple_llm.training.metrics import tracking
from tests.finished_run import make_unfinished
from tests.pipeline import REPOSITORY, run_python
from tests.test_trainer import content, weights

EVALUATE = ("evaluate.py", "--model", "model", "--samples", "20", "--json")


def break_matplotlib(monkeypatch):
    """As where the package is missing, or fails while it is imported."""
    monkeypatch.delattr("simple_llm.evaluation.pictures")
    monkeypatch.setitem(sys.modules, "simple_llm.evaluation.pictures", None)


def refuse(*arguments, **options):
    raise PermissionError(13, "Permission denied", "model")


def test_fault_35_a_shell_of_a_notebook_does_not_matter_to_pictures():
    """Colab and Jupyter name a backend that matplotlib finds in their own environment alone."""
    code = "from simple_llm import command_line; command_line.parser(''); import matplotlib"
    done = run_python("-c", code, cwd=REPOSITORY, MPLBACKEND="module://matplotlib_inline.no_such_backend")
    assert done.returncode == 0, done.stderr


def test_fault_35_no_file_imports_pyplot_which_looks_for_that_backend():
    folders = [REPOSITORY / name for name in ("simple_llm", "runs", "benchmarks", "web", "tests")]
    places = [*REPOSITORY.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    assert len(places) > 200
    imports = re.compile(r"^\s*(from|import) .*\bpyplot\b", re.MULTILINE)
    assert not [path for path in places if imports.search(path.read_text(encoding="utf-8"))]
    assert imports.search("from matplotlib" + " import pyplot")


def test_fault_35_a_model_is_finished_without_matplotlib_and_its_curve_is_drawn_by_the_next_start(
    finished_run, run_folder, call_script
):
    make_unfinished(run_folder)
    (run_folder / "model" / CURVE).unlink()
    with pytest.MonkeyPatch.context() as patch:
        break_matplotlib(patch)
        called = call_script("trainer.py", cwd=run_folder)
    assert called.exit_code == 0, called.stderr
    assert "done without training_curve.png (ModuleNotFoundError: " in called.stderr
    assert weights(run_folder) == weights(finished_run.folder)
    verified_manifest(run_folder / "model")
    assert not (run_folder / "model" / CURVE).exists()
    before = content(run_folder)
    assert call_script("trainer.py", cwd=run_folder).exit_code == 0
    assert content(run_folder).keys() - before.keys() == {"model/training_curve.png"}


@pytest.mark.parametrize(("module", "function"), [(pictures, "draw_curve"), (model_card, "model_card")])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), AttributeError("a bug"), MemoryError()])
def test_fault_35_curve_and_card_fail_each_by_itself_and_after_the_weights(
    finished_run, run_folder, call_script, monkeypatch, module, function, error
):
    make_unfinished(run_folder)
    for name in (CURVE, CARD):
        (run_folder / "model" / name).unlink()

    def fail(*arguments, **options):
        verified_manifest(run_folder / "model")  # the model is there
        raise error

    monkeypatch.setattr(module, function, fail)
    called = call_script("trainer.py", "--json", cwd=run_folder)
    assert called.exit_code == 0, called.stderr
    assert json.loads(called.stdout.splitlines()[-1])["step"] == 12
    assert weights(run_folder) == weights(finished_run.folder)
    missing, other = (CURVE, CARD) if function == "draw_curve" else (CARD, CURVE)
    assert f"done without {missing} ({type(error).__name__}" in called.stderr
    assert (run_folder / "model" / other).exists() and not (run_folder / "model" / missing).exists()


def test_fault_35_numbers_are_measured_printed_and_written_without_a_picture(
    run_folder, call_script, monkeypatch, caplog
):
    (run_folder / "model" / "evaluation.json").unlink()
    break_matplotlib(monkeypatch)
    called = call_script(*EVALUATE, cwd=run_folder)
    assert called.exit_code == 0, called.stderr
    report = json.loads(called.stdout.splitlines()[-1])
    assert json.loads((run_folder / "model" / "evaluation.json").read_text()) == report
    assert "done without evaluation.png" in caplog.text
    assert not (run_folder / "model" / "evaluation.png").exists()  # that of the report before would contradict this one


@pytest.mark.parametrize("arguments", [EVALUATE, ("evaluate.py", "--model", "model", "--lengths", "2", "--json")])
def test_fault_35_numbers_are_printed_where_the_report_cannot_be_written(
    run_folder, call_script, monkeypatch, arguments
):
    monkeypatch.setattr(folder_module, "write_ours", refuse)
    before = content(run_folder)
    called = call_script(*arguments, cwd=run_folder)
    assert (called.exit_code, called.stderr.splitlines()[-1]) == (
        5,
        "model: Permission denied; get the right to it, or name another place",
    )
    assert len(json.loads(called.stdout.splitlines()[-1])["model_sha256"]) == 64
    assert len(called.stdout.splitlines()) > 2
    assert content(run_folder) == before


def test_fault_35_attention_is_printed_where_no_picture_can_be_written(finished_run, tmp_path, call_script, caplog):
    shutil.copytree(finished_run.folder / "model", tmp_path / "model")
    (tmp_path / "file").write_text("mine")
    called = call_script("visualize.py", "--model", "model", "--output", "file", "1+2", cwd=tmp_path)
    assert (called.exit_code, called.stderr) == (2, "--output file is no folder\n")
    called = call_script("visualize.py", "--model", "model", "--output", "file/maps", "1+2", cwd=tmp_path)
    assert called.exit_code == 5, called.stderr
    assert called.stdout.startswith("layer  head")
    assert "done without file/maps/attention_overview.png" in caplog.text
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_fault_35_a_run_goes_on_without_a_tracker_that_fails(tmp_path, monkeypatch, caplog, broken):
    tracker = dict.fromkeys(("init", "log", "finish"), lambda *arguments, **options: None) | {broken: refuse}
    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(**tracker))
    with tracking("trackio", tmp_path, {"training.seed": 0}, goes_on=False) as track:
        for step in range(3):
            track(step, {"loss": 1.0})
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "done without trackio (PermissionError: [Errno 13] Permission denied: 'model')"
    ]
