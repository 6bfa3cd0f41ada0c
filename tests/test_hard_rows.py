"""Steps that look at many rows and learn from the hardest of them."""

import numpy as np
import pytest
import torch

from simple_llm.config.settings import HardRows
from simple_llm.errors import UsageError
from simple_llm.model.places_simple_llm import IGNORE_INDEX
from simple_llm.model.tokens import Examples
from simple_llm.training.batches import position_offsets
from simple_llm.training.learner import batch_indices, Learner, row_losses
from tests import tiny_models
from tests.tiny_models import make_train_config

pytestmark = pytest.mark.library

START, BATCH, LOOKED_AT, KEPT = 3, 16, 48, 9
HARD = {"max_steps": 9, "batch_size": BATCH, "hard_rows": HardRows(start=START, of=3, keep=0.55)}


def make_learner(tokens_per_step: int | str = 2, **training: object) -> tuple[Learner, Examples]:
    return tiny_models.make_learner(make_train_config(tokens_per_step, n_layer=3, **{**HARD, **training}))


def losses_of(learner: Learner, rows: Examples, index: np.ndarray) -> np.ndarray:
    """The loss of each row by itself, no position shifted."""
    return row_losses(learner.model, rows[index], torch.zeros(len(index), 1, dtype=torch.long)).numpy()


def gradient_of(learner: Learner) -> torch.Tensor:
    """The gradient, which is taken away."""
    found = torch.cat([parameter.grad.flatten() for parameter in learner.model.parameters()])
    learner.model.zero_grad()
    return found


def test_every_row_is_looked_at_once_an_epoch_whatever_the_step_learns_from():
    learner, rows = make_learner()
    steps = [batch_indices(rows, learner.config, step) for step in range(60)]
    assert [len(step) for step in steps] == [BATCH] * START + [LOOKED_AT] * (60 - START)
    looked_at = np.concatenate(steps)
    for epoch in np.split(looked_at, range(len(rows), len(looked_at), len(rows)))[:-1]:
        assert sorted(epoch) == list(range(len(rows)))
    assert [learner.config.rows_before(step) for step in (0, 1, START, START + 2)] == [0, 16, 48, 48 + 2 * LOOKED_AT]


@pytest.mark.parametrize("k", [1, 2, "all"])
def test_the_loss_of_a_row_is_that_of_its_whole_answer(k):
    learner, rows = make_learner(k)
    some = rows[np.arange(30)]
    log_probabilities = learner.model.eval()(input_ids=some.inputs.long()).logits.log_softmax(-1).detach()
    expected = [0.0] * 30
    for row, index in (some.targets != IGNORE_INDEX).nonzero().tolist():
        expected[row] -= float(log_probabilities[row, index, some.targets[row, index]])
    assert losses_of(learner, rows, np.arange(30)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("accumulation_steps", [1, 2, 4])
def test_a_step_learns_from_the_rows_with_the_largest_losses(accumulation_steps, dropout):
    learner, rows = make_learner(accumulation_steps=accumulation_steps, dropout=dropout)
    for step in range(START + 1):
        chosen, _ = learner.choose_rows(rows, step)
        candidates = batch_indices(rows, learner.config, step)
        if step < START:
            assert (chosen == candidates).all()
            learner.step(rows, step)
    assert len(chosen) == KEPT
    assert learner.model.training
    learner.model.eval()
    assert set(chosen) == set(candidates[np.argsort(losses_of(learner, rows, candidates))[-KEPT:]])


def test_what_is_not_among_the_hardest_changes_nothing():
    learner, rows = make_learner()
    for step in range(START):
        learner.step(rows, step)
    expected = learner.accumulate_gradients(rows, START), gradient_of(learner)
    chosen, _ = learner.choose_rows(rows, START)
    left_out = np.setdiff1d(batch_indices(rows, learner.config, START), chosen)
    easiest = left_out[int(losses_of(learner, rows, left_out).argmin())]
    for name in ("inputs", "targets", "place_targets"):
        getattr(rows, name)[left_out] = getattr(rows, name)[easiest].clone()
    found = learner.accumulate_gradients(rows, START), gradient_of(learner)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_rows_are_chosen_by_their_losses_at_the_positions_that_they_are_learned_at():
    train = make_train_config(2, n_layer=3, **HARD)
    model = train.model.model_copy(update={"n_positions": 40, "max_position_offset": 30})
    learner, rows = tiny_models.make_learner(train.model_copy(update={"model": model}))
    torch.nn.init.normal_(learner.model.transformer.wpe.weight, std=1.0)  # so that an offset matters
    chosen, offsets = learner.choose_rows(rows, START)
    candidates = batch_indices(rows, learner.config, START)
    all_offsets = position_offsets(LOOKED_AT, 30, learner.config.seed, START)
    losses = row_losses(learner.model, rows[candidates], all_offsets).numpy()
    hardest = np.sort(np.argsort(losses)[-KEPT:])
    assert set(hardest) != set(np.argsort(losses_of(learner, rows, candidates))[-KEPT:])
    assert (chosen == candidates[hardest]).all()
    assert torch.equal(offsets, all_offsets[hardest])


def test_slices_of_which_some_have_a_row_more_add_up_to_the_same_gradient():
    learners = [make_learner(accumulation_steps=number)[0] for number in (1, 4)]  # 9 rows: 3, 2, 2 and 2
    _, rows = make_learner()
    losses = [learner.accumulate_gradients(rows, START) for learner in learners]
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-5)
    torch.testing.assert_close(*map(gradient_of, learners), atol=1e-6, rtol=1e-4)


def test_fewer_rows_than_slices_are_refused():
    with pytest.raises(UsageError, match=r"training\.batch_size: 16 with 3 hard rows .* 1 processes times .* = 4"):
        make_learner(accumulation_steps=4, hard_rows={"start": 2, "of": 1, "keep": 0.2})
