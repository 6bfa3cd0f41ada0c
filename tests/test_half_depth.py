"""The first steps with every second block alone."""

import pytest
import torch

from simple_llm.model.tokens import Examples
from simple_llm.training.learner import at_half_depth, Learner
from tests import tiny_models
from tests.tiny_models import make_train_config


def make_learner(n_layer: int = 5, **training: object) -> tuple[Learner, Examples]:
    """A learner that is at half depth for its first two steps, and its examples."""
    return tiny_models.make_learner(make_train_config(2, n_layer, **{"half_depth_steps": 2, **training}))


def weights_by_block(model) -> list[torch.Tensor]:
    return [
        torch.cat([parameter.detach().flatten() for parameter in block.parameters()]) for block in model.transformer.h
    ]


@pytest.mark.parametrize("n_layer", [3, 4, 5, 6, 7, 8])
def test_when_the_other_blocks_join_the_loss_and_that_of_the_middle_go_on_where_they_were(n_layer):
    learner, rows = make_learner(n_layer)
    for step in range(2):
        learner.step(rows, step)
    whole = learner.accumulate_gradients(rows, 7)
    with at_half_depth(learner.model):
        half = learner.accumulate_gradients(rows, 7)
    assert torch.equal(half, whole)


def test_what_the_middle_says_is_part_of_that_loss():
    (learner, rows), (unasked, _) = make_learner(), make_learner(deep_supervision=0.0)
    with at_half_depth(learner.model), at_half_depth(unasked.model):
        assert learner.accumulate_gradients(rows, 7) > 1.5 * unasked.accumulate_gradients(rows, 7)


def test_every_second_block_stays_as_it_was_until_it_joins_and_learns_from_then_on():
    learner, rows = make_learner()
    before = weights_by_block(learner.model)
    learned = []
    for step in range(4):
        learner.step(rows, step)
        after = weights_by_block(learner.model)
        learned.append([not torch.equal(old, new) for old, new in zip(before, after, strict=True)])
        before = after
    assert learned == 2 * [[True, False, True, False, True]] + 2 * [[True] * 5]


def test_all_blocks_are_back_when_a_step_at_half_depth_fails():
    learner, rows = make_learner(half_depth_steps=None)
    whole = learner.accumulate_gradients(rows, 7)
    with pytest.raises(ZeroDivisionError), at_half_depth(learner.model):
        assert learner.accumulate_gradients(rows, 7) != whole
        raise ZeroDivisionError
    assert learner.accumulate_gradients(rows, 7) == whole


def test_without_it_no_block_starts_as_an_identity():
    learner, _ = make_learner(half_depth_steps=None)
    assert all(
        block.attn.c_proj.weight.any() and block.mlp.c_proj.weight.any() for block in learner.model.transformer.h
    )
