import hashlib
import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch

from simple_llm.config.settings import Model, Operations, TrainConfig
from simple_llm.files.names import LOG, MANIFEST
from simple_llm.files.sealed_folder import verified_manifest
from simple_llm.files.writing import DiskFullError, exclusive
from simple_llm.model.tokenizer_files import load_tokenizer, tokenizer_sha256
from simple_llm.training.checkpoint import list_checkpoints
from tests.finished_run import damage, interrupt_in_step, make_unfinished
from tests.forked import fork_script
from tests.tiny_models import make_data_config, make_tokenizer
from tokenizer import train_tokenizer

pytestmark = pytest.mark.usefixtures("blank_pictures")


def weights(folder: Path) -> str:
    """sha256 of the finished weights."""
    return hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()


def content(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, but the lock, which says who held it last, and the log."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", LOG))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def checkpoints(folder: Path) -> list[str]:
    return [path.name for path in list_checkpoints(folder / "model" / "checkpoints")]


def metrics(folder: Path) -> list[dict]:
    """metrics.jsonl without what depends on the clock."""
    lines = map(json.loads, (folder / "model" / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "problems_per_second"} for line in lines]


# ---- The whole pipeline ---------------------------------------------------------------------------


def test_the_pipeline_leaves_a_verified_model_its_evaluation_and_answers(finished_run):
    for name, done in finished_run.done.items():
        assert done.exit_code == 0, f"{name}:\n{done.stderr}"
    model = finished_run.folder / "model"
    manifest = verified_manifest(model)  # checks every sha256
    assert set(manifest["files"]) == {
        *("model.safetensors", "config.json", "generation_config.json", "modeling_simple_llm.py"),
        *("tokenizer.json", "tokenizer_config.json", "tokenization_simple_llm.py"),
        *("pipeline_simple_llm.py", "data_config.yaml", "train_config.yaml"),
    }
    assert (manifest["step"], manifest["num_total"]) == (12, 50)
    assert manifest["data_sha256"] == hashlib.sha256((finished_run.folder / "sequences.txt").read_bytes()).hexdigest()
    assert (model / "training_curve.png").read_bytes().startswith(b"\x89PNG")
    assert "repo_id: null" in (model / "train_config.yaml").read_text()
    assert checkpoints(finished_run.folder) == ["step-12", "step-8"]
    assert not [path for path in finished_run.folder.rglob("*") if path.name.startswith(".tmp")]

    said = json.loads(finished_run.done["trainer.py"].stdout.splitlines()[-1])
    assert {key: said[key] for key in ("step", "num_correct", "num_total", "num_parameters")} == {
        key: manifest[key] for key in ("step", "num_correct", "num_total", "num_parameters")
    }
    answers = finished_run.done["inference.py"].stdout.splitlines()
    assert [re.fullmatch(r"(\S+)=(\d+|no answer)", line)[1] for line in answers] == ["12+34", "0+255"]


def test_the_metrics_show_each_evaluation_once_and_the_loss_falls(finished_run):
    lines = metrics(finished_run.folder)
    assert [line["step"] for line in lines if "num_correct" in line] == [4, 8, 12]
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert list(losses) == [0, 10]
    assert losses[10] < losses[0]


def test_the_evaluation_says_what_it_measured_and_on_which_weights(finished_run):
    report = json.loads((finished_run.folder / "model" / "evaluation.json").read_text())
    assert json.loads(finished_run.done["evaluate.py"].stdout.splitlines()[-1]) == report
    assert report["model_sha256"] == weights(finished_run.folder)
    assert report["total"] == 100
    assert 0 <= report["correct"] == 100 - len(report["failures"])
    assert 0 < report["error_rate_upper_95"] <= 1
    assert report["min_logit_margin"] < 0 < len(report["failures"])
    assert report["side"] == "test"
    assert report["commutes"]["total"] == 100
    tables = ("by_operand_length", "by_second_operand_length", "by_longest_carry_chain")
    for table in tables:
        assert sum(row["sampled"] for row in report[table]) == 100


def test_a_finished_run_is_left_as_it_is(run_folder, call_script):
    before = content(run_folder)
    called = call_script("trainer.py", "training.save_every=5", "training.keep_checkpoints=3", cwd=run_folder)
    assert called.exit_code == 0
    assert "holds the finished model of this config" in called.stderr
    assert called.stdout.startswith("model: step 12, validation ")
    assert content(run_folder) == before


# ---- Interrupted and resumed equals uninterrupted -------------------------------------------------


def kill_before_step_8_has_its_name():
    real = os.rename

    def rename(source, target):
        if Path(target).name == "step-8":
            os.kill(os.getpid(), signal.SIGKILL)
        real(source, target)

    os.rename = rename


def test_fault_01_a_run_that_was_stopped_and_then_killed_in_a_save_ends_with_the_same_weights(finished_run, run_folder):
    shutil.rmtree(run_folder / "model" / "checkpoints")
    make_unfinished(run_folder)

    with pytest.MonkeyPatch.context() as patch:
        interrupt_in_step(patch, 5, signal.SIGTERM)
        done = fork_script("trainer.py", cwd=run_folder).end()
    assert done.exit_code == 143, done.stderr
    assert "stopped at step 6" in done.stderr
    assert checkpoints(run_folder) == ["step-6", "step-4"]

    done = fork_script("trainer.py", cwd=run_folder, before=kill_before_step_8_has_its_name).end()
    assert done.exit_code == -signal.SIGKILL
    assert checkpoints(run_folder) == ["step-6", "step-4"]
    assert list((run_folder / "model" / "checkpoints").glob(".tmp-step-8-*/manifest.json"))
    assert not (run_folder / "model" / "manifest.json").exists()

    done = fork_script("trainer.py", cwd=run_folder).end()
    assert done.exit_code == 0, done.stderr
    assert "going on from model/checkpoints/step-6" in done.stderr
    assert checkpoints(run_folder) == ["step-12", "step-8"]
    assert not list((run_folder / "model" / "checkpoints").glob(".tmp*"))
    assert weights(run_folder) == weights(finished_run.folder)
    assert metrics(run_folder) == metrics(finished_run.folder)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_fault_04_a_signal_in_the_last_step_saves_it_and_leaves_the_rest_to_the_next_start(
    finished_run, run_folder, call_script, number, exit_code
):
    make_unfinished(run_folder)
    shutil.rmtree(run_folder / "model" / "checkpoints" / "step-12")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_in_step(patch, 11, number)
        called = call_script("trainer.py", cwd=run_folder)
    assert called.exit_code == exit_code
    assert "stopped at step 12" in called.stderr
    assert checkpoints(run_folder) == ["step-12", "step-8"]
    assert not (run_folder / "model" / "manifest.json").exists()
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)

    assert call_script("trainer.py", cwd=run_folder).exit_code == 0
    assert weights(run_folder) == weights(finished_run.folder)
    assert metrics(run_folder) == metrics(finished_run.folder)


def test_fault_06_a_damaged_checkpoint_is_named_and_the_run_goes_on_from_the_one_before(
    finished_run, run_folder, call_script
):
    make_unfinished(run_folder)
    damage(run_folder / "model" / "checkpoints" / "step-12" / "optimizer.safetensors")
    called = call_script("trainer.py", cwd=run_folder)
    assert called.exit_code == 0, called.stderr
    assert "rejected step-12: model/checkpoints/step-12/optimizer.safetensors is damaged" in called.stderr
    assert "going on from model/checkpoints/step-8" in called.stderr
    assert weights(run_folder) == weights(finished_run.folder)
    verified_manifest(run_folder / "model" / "checkpoints" / "step-12")


def test_fault_07_when_every_checkpoint_is_damaged_nothing_starts_over(run_folder, call_script):
    make_unfinished(run_folder)
    damage(run_folder / "model" / "checkpoints" / "step-12" / "manifest.json")
    (run_folder / "model" / "checkpoints" / "step-8" / "state.json").unlink()
    before = content(run_folder)
    called = call_script("trainer.py", cwd=run_folder)
    assert called.exit_code == 3
    assert "rejected step-12" in called.stderr
    assert "rejected step-8" in called.stderr
    assert "--fresh" in called.stderr
    assert content(run_folder) == before


def test_fault_17_a_checkpoint_can_be_named_and_must_then_be_good_and_of_this_run(
    finished_run, run_folder, call_script
):
    make_unfinished(run_folder)
    elsewhere = run_folder / "elsewhere"
    shutil.move(run_folder / "model" / "checkpoints" / "step-8", elsewhere)
    called = call_script("trainer.py", "--resume", "elsewhere", "training.learning_rate=0.1", cwd=run_folder)
    assert called.exit_code == 2
    assert "training.learning_rate: 0.003 there, 0.1 here" in called.stderr

    called = call_script("trainer.py", "--resume", "elsewhere", cwd=run_folder)
    assert called.exit_code == 0
    assert "going on from elsewhere" in called.stderr
    assert weights(run_folder) == weights(finished_run.folder)

    damage(elsewhere / "model.safetensors")
    called = call_script("trainer.py", "--resume", "elsewhere", cwd=run_folder)
    assert called.exit_code == 3
    assert "elsewhere/model.safetensors is damaged" in called.stderr
    assert call_script("trainer.py", "--resume", "nowhere", cwd=run_folder).exit_code == 3


# ---- Runs that must not start ---------------------------------------------------------------------


def test_fault_15_a_folder_of_another_run_is_refused_with_every_difference_named(run_folder, call_script):
    before = content(run_folder)
    called = call_script("trainer.py", "training.seed=1", "training.batch_size=56", cwd=run_folder)
    assert called.exit_code == 2
    assert "training.seed: 0 there, 1 here" in called.stderr
    assert "training.batch_size: 112 there, 56 here" in called.stderr
    assert "--fresh" in called.stderr
    make_unfinished(run_folder)  # the same for a run that is not finished
    called = call_script("trainer.py", "model.dropout=0.2", cwd=run_folder)
    assert called.exit_code == 2
    assert "model.dropout: 0.1 there, 0.2 here" in called.stderr
    assert content(run_folder).items() <= before.items()


def test_fault_15_fresh_starts_over_and_takes_away_what_was_measured_on_the_old_weights(
    finished_run, run_folder, call_script
):
    called = call_script("trainer.py", "--fresh", "training.seed=1", "training.max_steps=3", cwd=run_folder)
    assert called.exit_code == 0
    assert weights(run_folder) != weights(finished_run.folder)
    assert not (run_folder / "model" / "evaluation.json").exists()
    assert checkpoints(run_folder) == ["step-3"]
    assert [line["step"] for line in metrics(run_folder) if "num_correct" in line] == [3]


def test_fault_09_other_data_and_another_tokenizer_are_refused(run_folder, call_script):
    called = call_script("trainer.py", "seed=1", cwd=run_folder)
    assert called.exit_code == 3
    assert "seed: 0 there, 1 here" in called.stderr
    assert "data_generator.py" in called.stderr

    tokenizer = make_tokenizer(make_data_config(255, 16).model_copy())
    tokenizer.pad_token = "<|unk|>"
    tokenizer.save_pretrained(run_folder / "model")
    called = call_script("trainer.py", cwd=run_folder)
    assert called.exit_code == 3  # the model's manifest vouched for the other one
    assert "tokenizer" in called.stderr

    make_tokenizer(make_data_config(255, 10)).save_pretrained(run_folder / "model")
    called = call_script("trainer.py", cwd=run_folder)
    assert called.exit_code == 3
    assert "has base = 10 where the configs say 16; run `python3 tokenizer.py --fresh`" in called.stderr


ON_PAPER = (
    "model.scratchpad=columns",
    "training.hard_rows=null",
    "model.tokens_per_step=1",
    "model.max_position_offset=0",
    "model.dropout=0.0",
)


@pytest.mark.parametrize(
    ("operations", "scratchpad", "settings", "message"),
    [
        (Operations(), "columns", (), "has scratchpad = 'columns' where the configs say 'none'"),
        (Operations(), "none", ON_PAPER, "has scratchpad = 'none' where the configs say 'columns'"),
        (Operations(add=0.5, subtract=0.5), "none", (), "has operators = '+-' where the configs say '+'"),
    ],
)
def test_fault_35_a_tokenizer_of_other_problems_is_refused_before_a_run_and_not_after(
    run_folder, call_script, operations, scratchpad, settings, message
):
    data = make_data_config(255, 16).model_copy(update={"operations": operations})
    train = TrainConfig(model=Model(scratchpad=scratchpad, tokens_per_step=1))
    train_tokenizer(iter([]), data, train).save_pretrained(run_folder / "model")
    (run_folder / "model" / MANIFEST).unlink()
    before = content(run_folder)
    for option in ((), ("--fresh",)):
        called = call_script("trainer.py", *option, *settings, cwd=run_folder)
        assert (called.exit_code, message in called.stderr) == (3, True), called.stderr
    assert content(run_folder) == before


def test_fault_35_a_run_that_cannot_start_over_leaves_what_the_former_one_left(run_folder, call_script, monkeypatch):
    before = content(run_folder)

    def no_room(num_bytes, folder):
        raise DiskFullError(num_bytes, folder)

    with monkeypatch.context() as patch:
        patch.setattr("simple_llm.training.run.require_room", no_room)
        called = call_script("trainer.py", "--fresh", cwd=run_folder)
    assert (called.exit_code, "disk full" in called.stderr) == (5, True)
    assert content(run_folder) == before


def test_fault_09_a_tokenizer_that_was_replaced_is_told_by_both_hashes_and_can_be_made_again(
    finished_run, run_folder, call_script
):
    def hash_in(manifest):
        return json.loads(manifest.read_bytes())["settings"]["tokenizer sha256"]

    there = hash_in(run_folder / "model" / "manifest.json")
    for is_finished in (True, False):
        if not is_finished:
            make_unfinished(run_folder)
        assert call_script("tokenizer.py", "--fresh", "tokenizer.pad_token=<|void|>", cwd=run_folder).exit_code == 0
        called = call_script("trainer.py", cwd=run_folder)
        assert called.exit_code == 3, called.stderr
        here = tokenizer_sha256(load_tokenizer(run_folder / "model"))
        assert here != there
        assert f"tokenizer sha256 {there} there, {here} here; run `python3 tokenizer.py --fresh`" in called.stderr
        called = call_script("trainer.py", "training.seed=1", cwd=run_folder)  # not the tokenizer alone
        assert called.exit_code == (3 if is_finished else 2)
    assert call_script("tokenizer.py", "--fresh", cwd=run_folder).exit_code == 0
    assert call_script("trainer.py", cwd=run_folder).exit_code == 0
    assert weights(run_folder) == weights(finished_run.folder)


def test_fault_09_missing_data_and_a_missing_tokenizer_name_the_script_that_makes_them(run_folder, call_script):
    (run_folder / "model" / "tokenizer.json").unlink()
    called = call_script("trainer.py", cwd=run_folder)
    assert called.exit_code == 3
    assert "run `python3 tokenizer.py` first" in called.stderr
    (run_folder / "sequences.txt.manifest.json").unlink()
    called = call_script("trainer.py", cwd=run_folder)
    assert called.exit_code == 3
    assert "run `python3 data_generator.py` first" in called.stderr


def test_fault_14_a_folder_in_use_and_one_that_cannot_be_written_are_told_before_training(run_folder, call_script):
    before = content(run_folder)
    with exclusive(run_folder / "model"):
        called = call_script("trainer.py", "--fresh", cwd=run_folder)
    assert called.exit_code == 5
    assert f"in use by process {os.getpid()}" in called.stderr
    called = call_script("trainer.py", "paths.model=sequences.txt/model", cwd=run_folder)
    assert called.exit_code == 5
    assert "sequences.txt/model cannot be written" in called.stderr
    assert content(run_folder) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_refused(run_folder, call_script):
    called = call_script("trainer.py", "training.device=cuda", cwd=run_folder)
    assert called.exit_code == 2
    assert "cuda is not available" in called.stderr


# ---- Divergence -----------------------------------------------------------------------------------


def test_fault_11_a_gradient_that_is_not_finite_ends_the_run_and_the_next_start_goes_on(
    finished_run, run_folder, call_script
):
    make_unfinished(run_folder)
    shutil.rmtree(run_folder / "model" / "checkpoints" / "step-12")
    real, calls = torch.nn.utils.clip_grad_norm_, []

    def clip(parameters, max_norm):
        calls.append(max_norm)
        return real(parameters, max_norm) * (float("nan") if len(calls) == 3 else 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
        called = call_script("trainer.py", cwd=run_folder)
    assert called.exit_code == 4
    assert "gradient norm nan at step 10" in called.stderr
    assert "last good checkpoint: model/checkpoints/step-8" in called.stderr
    assert not (run_folder / "model" / "manifest.json").exists()
    assert call_script("trainer.py", cwd=run_folder).exit_code == 0
    assert weights(run_folder) == weights(finished_run.folder)
