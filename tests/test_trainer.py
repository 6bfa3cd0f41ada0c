import hashlib
import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch

import trainer
from simple_llm.batches import BatchOrder
from simple_llm.checkpoint import list_checkpoints, TrainingState
from simple_llm.config import TrainConfig
from simple_llm.errors import DivergedError
from simple_llm.locking import exclusive
from simple_llm.manifest import read_manifest
from simple_llm.model_folder import build_model, vocabulary_of
from simple_llm.resuming import Run
from simple_llm.scoring import Score
from tests.pipeline import REPOSITORY, run_python, run_script
from tests.tiny_models import all_pairs, make_data_config, make_tokenizer, make_train_config


def weights(folder: Path) -> str:
    """sha256 of the finished weights."""
    return hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()


def content(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, but the lock: who held it last is written there."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def checkpoints(folder: Path) -> list[str]:
    return [path.name for path in list_checkpoints(folder / "model" / "checkpoints")]


def metrics(folder: Path) -> list[dict]:
    """metrics.jsonl without what depends on the clock."""
    lines = map(json.loads, (folder / "model" / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "problems_per_second"} for line in lines]


def make_unfinished(folder: Path) -> None:
    """Turn a finished run into one that died before its model was written."""
    (folder / "model" / "manifest.json").unlink()
    (folder / "model" / "model.safetensors").unlink()


def damage(path: Path) -> None:
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)


# ---- The whole pipeline ---------------------------------------------------------------------------


def test_the_pipeline_leaves_a_verified_model_its_evaluation_and_answers(finished_run):
    for name, done in finished_run.done.items():
        assert done.returncode == 0, f"{name}:\n{done.stderr}"
    model = finished_run.folder / "model"
    manifest = read_manifest(model)  # checks every sha256
    assert set(manifest["files"]) == {
        *("model.safetensors", "config.json", "generation_config.json", "modeling_simple_llm.py"),
        *("tokenizer.json", "tokenizer_config.json", "tokenization_simple_llm.py"),
        *("data_config.yaml", "train_config.yaml"),
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
    assert [line["step"] for line in lines if "num_correct" in line] == [0, 4, 8, 12]
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

SABOTAGED = """
import os, pathlib, runpy, signal, sys
from simple_llm.batches import BatchOrder
how, path, *arguments = sys.argv[1:]
indices, rename = BatchOrder.indices, pathlib.Path.rename
def stopped_in_step_5(self, step):
    if step == 5:
        os.kill(os.getpid(), signal.SIGTERM)
    return indices(self, step)
def killed_before_step_8_has_its_name(self, target):
    if pathlib.Path(target).name == "step-8":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
if how == "SIGTERM":
    BatchOrder.indices = stopped_in_step_5
else:
    pathlib.Path.rename = killed_before_step_8_has_its_name
sys.argv = [path, *arguments]
runpy.run_path(path, run_name="__main__")
"""


def test_a_run_that_was_stopped_and_then_killed_in_a_save_ends_with_the_same_weights(finished_run, run_folder):
    shutil.rmtree(run_folder / "model" / "checkpoints")
    make_unfinished(run_folder)
    script = str(REPOSITORY / "trainer.py")

    done = run_python("-c", SABOTAGED, "SIGTERM", script, cwd=run_folder, PYTHONPATH=str(REPOSITORY))
    assert done.returncode == 143, done.stderr
    assert "stopped at step 6" in done.stderr
    assert checkpoints(run_folder) == ["step-6", "step-4"]

    done = run_python("-c", SABOTAGED, "SIGKILL", script, cwd=run_folder, PYTHONPATH=str(REPOSITORY))
    assert done.returncode == -signal.SIGKILL
    assert checkpoints(run_folder) == ["step-6", "step-4"]
    assert list((run_folder / "model" / "checkpoints").glob(".tmp-step-8-*/manifest.json"))
    assert not (run_folder / "model" / "manifest.json").exists()

    done = run_script("trainer.py", cwd=run_folder)
    assert done.returncode == 0, done.stderr
    assert "going on from model/checkpoints/step-6" in done.stderr
    assert checkpoints(run_folder) == ["step-12", "step-8"]
    assert not list((run_folder / "model" / "checkpoints").glob(".tmp*"))
    assert weights(run_folder) == weights(finished_run.folder)
    assert metrics(run_folder) == metrics(finished_run.folder)


def interrupt_in_step(monkeypatch, interrupted_step: int, number: signal.Signals) -> None:
    real = BatchOrder.indices

    def indices(self, step):
        if step == interrupted_step:
            os.kill(os.getpid(), number)
        return real(self, step)

    monkeypatch.setattr(BatchOrder, "indices", indices)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_last_step_saves_it_and_leaves_the_rest_to_the_next_start(
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


def test_a_damaged_checkpoint_is_named_and_the_run_goes_on_from_the_one_before(finished_run, run_folder, call_script):
    make_unfinished(run_folder)
    damage(run_folder / "model" / "checkpoints" / "step-12" / "optimizer.safetensors")
    called = call_script("trainer.py", cwd=run_folder)
    assert called.exit_code == 0, called.stderr
    assert "rejected step-12: model/checkpoints/step-12/optimizer.safetensors is damaged" in called.stderr
    assert "going on from model/checkpoints/step-8" in called.stderr
    assert weights(run_folder) == weights(finished_run.folder)
    read_manifest(run_folder / "model" / "checkpoints" / "step-12")


def test_when_every_checkpoint_is_damaged_nothing_starts_over(run_folder, call_script):
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


def test_a_checkpoint_can_be_named_and_must_then_be_good_and_of_this_run(finished_run, run_folder, call_script):
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


def test_a_folder_of_another_run_is_refused_with_every_difference_named(run_folder, call_script):
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


def test_fresh_starts_over_and_takes_away_what_was_measured_on_the_old_weights(finished_run, run_folder, call_script):
    called = call_script("trainer.py", "--fresh", "training.seed=1", "training.max_steps=3", cwd=run_folder)
    assert called.exit_code == 0
    assert weights(run_folder) != weights(finished_run.folder)
    assert not (run_folder / "model" / "evaluation.json").exists()
    assert checkpoints(run_folder) == ["step-3"]
    assert [line["step"] for line in metrics(run_folder) if "num_correct" in line] == [0, 3]


def test_other_data_and_another_tokenizer_are_refused(run_folder, call_script):
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
    assert "numbers.base = 10, the data 16" in called.stderr
    assert "tokenizer.py" in called.stderr


def test_missing_data_and_a_missing_tokenizer_name_the_script_that_makes_them(run_folder, call_script):
    (run_folder / "model" / "tokenizer.json").unlink()
    called = call_script("trainer.py", cwd=run_folder)
    assert called.exit_code == 3
    assert "run `python3 tokenizer.py` first" in called.stderr
    (run_folder / "sequences.txt.manifest.json").unlink()
    called = call_script("trainer.py", cwd=run_folder)
    assert called.exit_code == 3
    assert "run `python3 data_generator.py` first" in called.stderr


def test_a_folder_in_use_and_one_that_cannot_be_written_are_told_before_training(run_folder, call_script):
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


def test_a_gradient_that_is_not_finite_ends_the_run_and_the_next_start_goes_on(finished_run, run_folder, call_script):
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


def make_learner(tokens_per_step: int = 2, dropout: float = 0.0, **training):
    """A tiny learner and its rows: all pairs below 20."""
    data, train = make_data_config(), make_train_config(tokens_per_step, **training)
    train = TrainConfig(model=train.model.model_copy(update={"dropout": dropout}), training=train.training)
    tokenizer = make_tokenizer(data)
    torch.manual_seed(0)
    model = build_model(data, train, tokenizer)
    rows = trainer.prepare_data(all_pairs(19), data, train, vocabulary_of(tokenizer))
    return trainer.make_learner(model, train.training), rows


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_loss_that_is_not_finite_leaves_the_weights_as_they_were(monkeypatch, value):
    learner, rows = make_learner()
    learner.step(rows, 0)
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    real = trainer.training_loss
    monkeypatch.setattr(trainer, "training_loss", lambda *arguments: real(*arguments) * float(value))
    with pytest.raises(DivergedError, match=r"loss .* at step 1"):
        learner.step(rows, 1)
    after = learner.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


# ---- A step ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2])
def test_a_batch_in_slices_has_the_gradient_of_the_whole_batch(k):
    losses, gradients = [], []
    for accumulation_steps in (1, 2, 8):
        learner, rows = make_learner(k, accumulation_steps=accumulation_steps)
        losses.append(learner.accumulate_gradients(rows, 3).item())
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in learner.model.parameters()]))
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
    assert gradients[0].norm() > 0
    for gradient in gradients[1:]:
        assert torch.allclose(gradient, gradients[0], atol=1e-5)


def test_dropout_is_a_function_of_seed_and_step(monkeypatch):
    learner, rows = make_learner(dropout=0.5, max_steps=10)
    weights_before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}

    def loss_of(step: int) -> float:
        learner.model.load_state_dict(weights_before)
        torch.rand(7)  # whatever was drawn before has no part in it
        return learner.step(rows, step).item()

    same_rows = BatchOrder(len(rows.inputs), 16, seed=0).indices(0)
    monkeypatch.setattr(BatchOrder, "indices", lambda self, step: same_rows)
    assert loss_of(3) == loss_of(3)
    assert loss_of(3) != loss_of(4)


def test_a_step_in_bfloat16_keeps_the_weights_in_float32():
    learner, rows = make_learner(precision="bf16")
    before = learner.model.transformer.wte.weight.clone()
    assert learner.step(rows, 0).isfinite()
    assert {parameter.dtype for parameter in learner.model.parameters()} == {torch.float32}
    assert not torch.equal(learner.model.transformer.wte.weight, before)


def test_validation_rows_are_never_trained_on_and_the_loss_learns_from_training_rows_alone():
    data, train = make_data_config(), make_train_config(1)
    vocabulary = vocabulary_of(make_tokenizer(data))
    problems = all_pairs(19)
    rows = trainer.prepare_data(problems, data, train, vocabulary)
    trained_on = {tuple(row) for row in rows.inputs.tolist()}
    validated = {tuple(row) for row in rows.validation[0].tolist()}
    assert len(trained_on) + len(validated) < 400  # the rest is the test side
    assert min(len(trained_on), len(validated)) > 20
    width = min(rows.inputs.size(1), rows.validation[0].size(1))
    assert not {row[:width] for row in trained_on} & {row[:width] for row in validated}


# ---- Early stopping -------------------------------------------------------------------------------


@pytest.mark.parametrize("stopped_in", [None, 1, 2, 3, 4, 5])
def test_a_run_ends_after_so_many_exact_evaluations_also_when_it_was_interrupted(monkeypatch, tmp_path, stopped_in):
    """Evaluations at 0, 2 and 4 are exact; 6 would be one too many."""
    data, train = make_data_config(), make_train_config(1, max_steps=20, eval_every=2, stop_after_exact=3)
    tokenizer = make_tokenizer(data)
    rows = trainer.prepare_data(all_pairs(19), data, train, vocabulary_of(tokenizer))
    monkeypatch.setattr(trainer, "evaluate", lambda learner, validation: Score(5, 5))

    def start(run: Run) -> dict:
        torch.manual_seed(0)
        return trainer.train_model(build_model(data, train, tokenizer), rows, train.training, run)

    if stopped_in:
        with pytest.MonkeyPatch.context() as patch:
            interrupt_in_step(patch, stopped_in - 1, signal.SIGTERM)
            with pytest.raises(trainer.Interrupted):
                start(Run(tmp_path, {})) if stopped_in < 5 else pytest.skip("it has ended by then")
        path = tmp_path / "checkpoints" / f"step-{stopped_in}"
        result = start(Run(tmp_path, {}, path, stopped_in))
    else:
        result = start(Run(tmp_path, {}))
    assert result["step"] == 4
    assert result["num_exact_evaluations"] == 3
    again = start(Run(tmp_path, {}, tmp_path / "checkpoints" / "step-4", 4))
    assert again["step"] == 4
    assert TrainingState(**json.loads((tmp_path / "checkpoints" / "step-4" / "state.json").read_text())).step == 4


# ---- evaluate.py ----------------------------------------------------------------------------------


def test_a_gate_that_is_not_reached_ends_with_7_after_the_report_was_written(run_folder, call_script):
    (run_folder / "model" / "evaluation.json").unlink()
    options = ("--samples", "40", "--runs", "2", "--seed", "5")
    called = call_script("evaluate.py", *options, "--min-accuracy", "1.0", cwd=run_folder)
    assert called.exit_code == 7
    assert "below --min-accuracy 1" in called.stderr
    report = json.loads((run_folder / "model" / "evaluation.json").read_text())
    assert [run["seed"] for run in report["runs"]] == [5, 6]
    assert report["total"] == 80
    assert report["error_rate_upper_95"] == max(run["error_rate_upper_95"] for run in report["runs"])
    assert call_script("evaluate.py", "--samples", "40", "--min-accuracy", "0", cwd=run_folder).exit_code == 0


def test_a_range_is_evaluated_by_itself_and_must_be_known_to_the_model(run_folder, call_script):
    called = call_script("evaluate.py", "--range", "3:40", "--json", cwd=run_folder)
    assert called.exit_code == 0
    report = json.loads(called.stdout.splitlines()[-1])
    assert report["range"] == [3, 40]
    assert 0 < report["total"] < 38 * 38
    assert {int(one[name]) for one in report["failures"] for name in "xy"} <= set(range(3, 41))
    assert "all there are in this range; 10,000 were asked for" in called.stdout
    for bad in ("0:256", "9:3"):
        called = call_script("evaluate.py", "--range", bad, cwd=run_folder)
        assert called.exit_code == 2
        assert "this model knows 0:255" in called.stderr


def test_a_model_that_is_damaged_or_not_finished_is_not_evaluated(run_folder, call_script):
    damage(run_folder / "model" / "model.safetensors")
    for script in (("evaluate.py",), ("inference.py", "1+2")):
        called = call_script(*script, cwd=run_folder)
        assert called.exit_code == 3
        assert "model.safetensors is damaged" in called.stderr
    make_unfinished(run_folder)
    called = call_script("evaluate.py", cwd=run_folder)
    assert called.exit_code == 3
    assert "holds no finished model; run `python3 trainer.py` first" in called.stderr
