import signal
from pathlib import Path

import numpy as np
import pytest
import torch

import trainer
from simple_llm.config.settings import TrainConfig
from simple_llm.data.split import split_sides, TRAIN, VALIDATION
from simple_llm.errors import DivergedError, Interrupted, UsageError
from simple_llm.evaluation.scoring import Score
from simple_llm.model.tokenizer_files import vocabulary_of
from simple_llm.training.batches import BatchOrder
from simple_llm.training.checkpoint import list_checkpoints
from simple_llm.training.learner import batch_indices, build_model, TrainingLoss
from simple_llm.training.run import Run
from tests import tiny_models
from tests.finished_run import interrupt_in_step
from tests.oracle import PerfectAdder
from tests.tiny_models import all_pairs, make_data_config, make_tokenizer, make_train_config

pytestmark = pytest.mark.library


def make_learner(tokens_per_step: int = 2, dropout: float = 0.0, **training):
    """A tiny learner and its examples: all pairs below 20."""
    return tiny_models.make_learner(make_train_config(tokens_per_step, dropout=dropout, **training))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_fault_11_a_loss_that_is_not_finite_leaves_the_weights_as_they_were(monkeypatch, value):
    learner, rows = make_learner()
    learner.step(rows, 0)
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    real = TrainingLoss.forward
    monkeypatch.setattr(TrainingLoss, "forward", lambda *arguments: real(*arguments) * float(value))
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

    same_rows = BatchOrder(len(rows), 16, seed=0).indices(0)
    monkeypatch.setattr(BatchOrder, "indices", lambda self, step: same_rows)
    assert loss_of(3) == loss_of(3)
    assert loss_of(3) != loss_of(4)


def test_a_share_of_each_batch_has_rows_of_every_length_alike_and_the_rest_all_rows_in_turn():
    learner, rows = make_learner(1, batch_size=40, even_lengths=0.25)
    batches = np.array([batch_indices(rows, learner.config, step) for step in range(200)])
    assert batches.shape == (200, 40)
    in_turn, even = batches[:, :30], batches[:, 30:]
    assert sorted(in_turn.flatten()[: len(rows)]) == list(range(len(rows)))
    shares = [np.isin(even, of_length).mean() * len(rows.rows_by_length) for of_length in rows.rows_by_length]
    assert len(shares) > 3
    assert shares == pytest.approx([1] * len(shares), abs=0.3)
    plain = make_learner(1, batch_size=40)[0].config
    assert (batch_indices(rows, plain, 3) == BatchOrder(len(rows), 40, plain.seed).indices(3)).all()


def test_a_step_learns_from_the_rows_that_are_drawn_evenly(monkeypatch):
    learner, rows = make_learner(1, even_lengths=0.25)
    losses = []
    for drawn in (0, 1):
        monkeypatch.setattr("simple_llm.training.learner.evenly_by_length", lambda *rest, row=drawn: np.full(4, row))
        losses.append(learner.accumulate_gradients(rows, 3).item())
    assert losses[0] != losses[1]


def test_a_step_in_bfloat16_keeps_the_weights_in_float32():
    learner, rows = make_learner(precision="bf16")
    before = learner.model.transformer.wte.weight.clone()
    assert learner.step(rows, 0).isfinite()
    assert {parameter.dtype for parameter in learner.model.parameters()} == {torch.float32}
    assert not torch.equal(learner.model.transformer.wte.weight, before)


def test_what_is_trained_on_and_what_is_evaluated_are_the_two_sides_of_the_split_and_never_the_third():
    data, train = make_data_config(), make_train_config(1, eval_problems=30)
    vocabulary, problems = vocabulary_of(make_tokenizer(data), 1), all_pairs(19)
    rows = trainer.prepare_data(problems, data, train, vocabulary)
    oracle = PerfectAdder(vocabulary)

    def pairs(inputs: torch.Tensor) -> list[tuple[int, ...]]:
        return [tuple(oracle.value(number) for number in oracle.numbers(row)[:2]) for row in inputs.tolist()]

    side = split_sides(problems, data.split)
    assert pairs(rows.training.inputs) == [divmod(index, 20) for index in (side == TRAIN).nonzero()[0]]
    assert pairs(rows.validation.inputs) == [divmod(index, 20) for index in (side == VALIDATION).nonzero()[0]][:30]


@pytest.mark.parametrize(("missing", "name"), [(TRAIN, "train"), (VALIDATION, "validation")])
def test_rows_that_leave_a_side_empty_are_refused_with_the_settings_to_mend(missing, name):
    data, problems = make_data_config(), all_pairs(19)
    rest = problems[split_sides(problems, data.split) != missing]
    with pytest.raises(UsageError, match=rf"storage\.num_sequences: of {len(rest)} rows none .* split\.{name} = "):
        trainer.prepare_data(rest, data, make_train_config(1), vocabulary_of(make_tokenizer(data), 1))


# ---- Early stopping -------------------------------------------------------------------------------


def start(run: Run, train: TrainConfig) -> dict[str, object]:
    """Train a tiny model as trainer.py does."""
    data = make_data_config()
    tokenizer = make_tokenizer(data)
    rows = trainer.prepare_data(all_pairs(19), data, train, vocabulary_of(tokenizer, train.model.tokens_per_step))
    torch.manual_seed(0)
    return trainer.train_model(build_model(data, train, tokenizer), rows, train.training, run)


def train_in(folder: Path, train: TrainConfig, stopped_at: int | None) -> dict[str, object]:
    """Train to the end, after a start that was interrupted behind that step."""
    run = Run(folder, {})
    if stopped_at:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
            interrupt_in_step(patch, stopped_at - 1, signal.SIGTERM)
            start(run, train)
        run = Run(folder, {}, folder / "checkpoints" / f"step-{stopped_at}", stopped_at)
    return start(run, train)


EVERY_SECOND_STEP = {"eval_every": 2, "stop_after_exact": 2}  # at 2 and 4; 6 would be one too many
RESTARTS = {"first": 2, "every": 2}  # looked at after 2 and 4, where the learning rate is 0


@pytest.mark.parametrize("stopped_at", [None, 1, 2, 3, 4])
@pytest.mark.parametrize(
    "settings",
    [EVERY_SECOND_STEP, {**EVERY_SECOND_STEP, "eval_every": 20, "restarts": RESTARTS, "warmup_steps": 1}],
    ids=["every second step", "restarts"],
)
def test_a_run_ends_after_so_many_exact_evaluations_also_when_it_was_interrupted(
    monkeypatch, tmp_path, stopped_at, settings
):
    train = make_train_config(1, max_steps=20, **settings)
    monkeypatch.setattr(trainer, "evaluate", lambda learner, data, num_rows: {0: Score(3, 3), 1: Score(2, 2)})
    result = train_in(tmp_path, train, stopped_at)
    assert result["step"] == 4
    assert result["num_exact_evaluations"] >= train.training.stop_after_exact
    again = start(Run(tmp_path, {}, tmp_path / "checkpoints" / "step-4", 4), train)
    assert again["step"] == 4
    assert list_checkpoints(tmp_path / "checkpoints")[0].name == "step-4"


@pytest.mark.parametrize("stopped_at", [None, 2, 3, 4])
def test_the_learning_rate_falls_again_until_a_larger_validation_is_exact(monkeypatch, tmp_path, capsys, stopped_at):
    restarts = {"first": 2, "every": 2, "until_exact": 40}
    train = make_train_config(1, max_steps=20, eval_every=3, eval_problems=7, warmup_steps=1, restarts=restarts)
    found, looked_at = {40: [Score(39, 40), Score(40, 40)], 7: [Score(7, 7)]}, []

    def evaluate(learner: object, data: object, num_rows: int) -> dict[int, Score]:
        looked_at.append(num_rows)
        return {0: found[num_rows].pop(0)}

    monkeypatch.setattr(trainer, "evaluate", evaluate)

    assert train_in(tmp_path, train, stopped_at)["step"] == 4
    assert looked_at == [40, 7, 40]
    line = "step 2: validation 39 / 40 exact; the learning rate falls again, to step 4"
    assert (line in capsys.readouterr().err) == (stopped_at != 2)  # then the next start begins with that descent


def test_an_evaluation_looks_at_as_many_rows_as_it_is_told():
    restarts = {"first": 2, "every": 2, "until_exact": 25}
    data, train = make_data_config(), make_train_config(1, eval_problems=10, restarts=restarts)
    rows = trainer.prepare_data(all_pairs(19), data, train, vocabulary_of(make_tokenizer(data), 1))
    assert len(rows.validation) == 25
    learner, _ = tiny_models.make_learner(make_train_config(1))
    for num_rows in (10, 25):
        assert sum(trainer.evaluate(learner, rows, num_rows).values(), Score()).num_total == num_rows
