"""A run that leaves the mean of its last weights: which mean, who sees it, and that training does not."""

import signal

import pytest
import torch
from torch import Tensor

import trainer
from simple_llm.config.settings import Averaging
from simple_llm.errors import Interrupted
from simple_llm.evaluation.scoring import Score
from simple_llm.model.tokenizer_files import vocabulary_of
from simple_llm.training.checkpoint import list_checkpoints
from simple_llm.training.learner import build_model
from simple_llm.training.run import Run
from tests import tiny_models
from tests.finished_run import interrupt_in_step
from tests.tiny_models import all_pairs, make_data_config, make_tokenizer, make_train_config

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("tested_libraries")]

START, DECAY, MAX_STEPS = 3, 0.75, 8
SETTINGS = {"max_steps": MAX_STEPS, "eval_every": 2, "save_every": 2, "eval_problems": 30, "keep_checkpoints": 9}
AVERAGED = {**SETTINGS, "averaging": Averaging(start=START, decay=DECAY)}


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({"max_steps": 1}, 1),
        ({"max_steps": 7}, 4),
        ({"max_steps": 8}, 4),
        ({"max_steps": 12, "restarts": {"first": 6, "every": 3}}, 3),
        ({"max_steps": 8, "averaging": {"start": 7}}, 7),
        ({"max_steps": 8, "averaging": None}, None),
    ],
)
def test_it_begins_where_half_of_the_first_descent_is_over_if_nothing_else_is_said(settings, start):
    assert make_train_config(1, **{"averaging": {}, **settings}).training.averaging_start == start


def weights_of(model: torch.nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])


def train(run: Run, on_step=lambda model: None, **settings) -> tuple[Tensor, dict]:
    """Train a tiny model as trainer.py does; its weights at the end, and the result without its seconds."""
    data, config = make_data_config(), make_train_config(1, **settings)
    tokenizer = make_tokenizer(data)
    rows = trainer.prepare_data(all_pairs(19), data, config, vocabulary_of(tokenizer, 1))
    torch.manual_seed(0)
    model = build_model(data, config, tokenizer)
    result = trainer.train_model(model, rows, config.training, run, lambda state: on_step(model))
    return weights_of(model), {key: value for key, value in result.items() if key != "seconds"}


def mean_by_definition(each: list[Tensor]) -> Tensor:
    """The mean of the weights after START steps and those after it, one by one with the share each has in it."""
    shares = []
    for number in range(1, len(each) - START + 1):
        newest = max(1 - DECAY, 1 / number)
        shares = [share * (1 - newest) for share in shares] + [newest]
    assert sum(shares) == pytest.approx(1)
    return sum(share * one for share, one in zip(shares, each[START:], strict=True))


@pytest.fixture(scope="module")
def each() -> list[Tensor]:
    """The weights after 0, 1, 2, ... steps, where no mean is taken."""
    learner, rows = tiny_models.make_learner(make_train_config(1, **SETTINGS))
    found = [weights_of(learner.model)]
    for step in range(MAX_STEPS):
        learner.step(rows, step)
        found.append(weights_of(learner.model))
    return found


def test_training_goes_on_from_the_weights_and_the_mean_is_that_of_the_definition(each):
    learner, rows = tiny_models.make_learner(make_train_config(1, **AVERAGED))
    for step in range(MAX_STEPS):
        with learner.mean.in_place():
            mean = weights_of(learner.model)
        assert torch.equal(weights_of(learner.model), each[step])
        if step <= START:
            assert torch.equal(mean, each[step])
        else:
            assert torch.allclose(mean, mean_by_definition(each[: step + 1]), atol=1e-6)
            assert not torch.allclose(mean, each[step], atol=1e-4)
        learner.step(rows, step)


def test_what_is_evaluated_uploaded_and_left_is_the_mean(monkeypatch, tmp_path, each):
    evaluated, shown, real = [], [], trainer.is_exact

    def seen(model, *rows):
        evaluated.append(weights_of(model))
        return real(model, *rows)

    monkeypatch.setattr(trainer, "is_exact", seen)
    left, _ = train(Run(tmp_path, {}), lambda model: shown.append(weights_of(model)), **AVERAGED)
    means = [each[step] if step <= START else mean_by_definition(each[: step + 1]) for step in range(MAX_STEPS + 1)]
    for found, wanted in ((evaluated, means[2::2]), (shown, means[:-1]), ([left], means[-1:])):
        assert len(found) == len(wanted)
        assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(found, wanted, strict=True))


def test_tied_weights_are_still_one_weight_when_the_mean_is_in_place():
    learner, rows = tiny_models.make_learner(make_train_config(1, **AVERAGED))
    for step in range(MAX_STEPS):
        learner.step(rows, step)
    with learner.mean.in_place():
        model = learner.model
        assert model.lm_head.weight.data_ptr() == model.transformer.wte.weight.data_ptr()


def test_what_fails_while_the_mean_is_in_place_leaves_the_weights_to_training(each):
    learner, rows = tiny_models.make_learner(make_train_config(1, **AVERAGED))
    for step in range(MAX_STEPS):
        learner.step(rows, step)
    with pytest.raises(ZeroDivisionError), learner.mean.in_place():
        raise ZeroDivisionError
    assert torch.equal(weights_of(learner.model), each[-1])


@pytest.mark.parametrize("stopped_at", range(1, MAX_STEPS + 1))
def test_a_run_that_was_interrupted_ends_with_the_same_mean(tmp_path, stopped_at):
    wanted = train(Run(tmp_path / "whole", {}), **AVERAGED)
    run = Run(tmp_path, {})
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        interrupt_in_step(patch, stopped_at - 1, signal.SIGTERM)
        train(run, **AVERAGED)
    left, result = train(Run(tmp_path, {}, tmp_path / "checkpoints" / f"step-{stopped_at}", stopped_at), **AVERAGED)
    assert torch.equal(left, wanted[0])
    assert result == wanted[1]
    newest = [list_checkpoints(folder / "checkpoints")[0] for folder in (tmp_path / "whole", tmp_path)]
    for name in ("model.safetensors", "optimizer.safetensors"):
        one, other = ((path / name).read_bytes() for path in newest)
        assert one == other


def test_a_run_that_ends_before_the_mean_begins_leaves_its_weights(monkeypatch, tmp_path, each):
    monkeypatch.setattr(trainer, "evaluate", lambda learner, data, num_rows: {0: Score(1, 1)})
    left, result = train(Run(tmp_path, {}), **AVERAGED, stop_after_exact=1)
    assert result["step"] == 2
    assert torch.equal(left, each[2])
