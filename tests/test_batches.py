"""In which order rows come, and how far their positions are moved."""

import numpy as np
import pytest
import torch

from simple_llm.training.batches import BatchOrder, evenly_by_length, position_offsets


@pytest.mark.parametrize(("num_rows", "batch_size"), [(7, 3), (5, 5), (3, 8), (4, 1)])
def test_every_epoch_shows_each_row_once_and_batches_cross_the_seam(num_rows, batch_size):
    order = BatchOrder(num_rows, batch_size, seed=3)
    num_epochs = 2 * batch_size  # so that whole batches end where an epoch ends
    stream = np.concatenate([order.indices(step) for step in range(2 * num_rows)])
    epochs = stream.reshape(num_epochs, num_rows)
    assert (np.sort(epochs, axis=1) == np.arange(num_rows)).all()
    assert all(len(order.indices(step)) == batch_size for step in range(2 * num_rows))


def test_the_order_is_a_function_of_seed_and_step_only():
    first, again, other = BatchOrder(1000, 64, seed=0), BatchOrder(1000, 64, seed=0), BatchOrder(1000, 64, seed=1)
    forwards = [first.indices(step).tolist() for step in range(40)]
    backwards = [again.indices(step).tolist() for step in reversed(range(40))][::-1]
    assert forwards == backwards
    assert forwards[0] != other.indices(0).tolist()
    assert sorted(forwards[0]) != forwards[0]
    epochs = np.concatenate(forwards)[:2000].reshape(2, 1000)
    assert (epochs[0] != epochs[1]).any()  # each epoch is shuffled anew


def test_offsets_take_every_value_from_0_to_the_largest_and_no_other():
    offsets = position_offsets(2000, 3, seed=0, step=5)
    assert offsets.shape == (2000, 1)
    assert set(offsets.flatten().tolist()) == {0, 1, 2, 3}
    assert not position_offsets(2000, 0, seed=0, step=5).any()


def test_offsets_are_a_function_of_seed_and_step_only():
    offsets = position_offsets(50, 9, seed=0, step=5)
    torch.manual_seed(123)  # the global generator has no part in it
    assert torch.equal(position_offsets(50, 9, seed=0, step=5), offsets)
    assert not torch.equal(position_offsets(50, 9, seed=0, step=6), offsets)
    assert not torch.equal(position_offsets(50, 9, seed=1, step=5), offsets)


def test_rows_that_are_drawn_evenly_have_each_length_alike_and_each_row_of_it():
    rows_by_length = [np.array([5]), np.array([0, 7]), np.arange(10, 40)]
    drawn = np.concatenate([evenly_by_length(rows_by_length, 30, seed=0, step=step) for step in range(100)])
    counts = [np.isin(drawn, rows).sum() for rows in rows_by_length]
    assert sum(counts) == len(drawn) == 3000
    assert all(900 < count < 1100 for count in counts)  # 1,000 each but for chance: 4 standard deviations
    assert set(drawn) == {5, 0, 7, *range(10, 40)}


def test_what_is_drawn_evenly_is_a_function_of_seed_and_step_only():
    rows_by_length = [np.arange(9), np.arange(9, 50)]
    drawn = evenly_by_length(rows_by_length, 20, seed=0, step=5)
    np.random.seed(123)  # the global generator has no part in it
    assert (evenly_by_length(rows_by_length, 20, seed=0, step=5) == drawn).all()
    assert (evenly_by_length(rows_by_length, 20, seed=0, step=6) != drawn).any()
    assert (evenly_by_length(rows_by_length, 20, seed=1, step=5) != drawn).any()
