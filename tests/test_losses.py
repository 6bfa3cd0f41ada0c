import pytest
import torch

from simple_llm.losses import counting_loss, delimiter_counts, training_loss
from simple_llm.modeling_simple_llm import IGNORE_INDEX
from tests.tiny_models import make_vocabulary, tiny_model

VOCABULARY = make_vocabulary()


def tokens_of(text: str) -> list[int]:
    """Token IDs of digits and +; P is padding."""
    special = {"+": VOCABULARY.delimiter_id, "P": VOCABULARY.pad_id}
    return [special[character] if character in special else 3 + int(character) for character in text]


ROWS = torch.tensor([tokens_of(row) for row in ("+12+873+993+", "+1+2+3+PPPPP", "+0+0+0+PPPPP", "+9999+1+0000")])
TARGETS = torch.full((4, 12), IGNORE_INDEX)
TARGETS[0, 6:10], TARGETS[1, 3:5], TARGETS[2, 3:5], TARGETS[3, 6] = 5, 7, 3, 11
NO_OFFSET = torch.zeros(4, 1, dtype=torch.long)


def loss_of(model, part=slice(None), count_weight: float = 0.0, offsets=NO_OFFSET) -> torch.Tensor:
    num_targets, num_tokens = TARGETS.ne(IGNORE_INDEX).sum(), ROWS.ne(VOCABULARY.pad_id).sum()
    return training_loss(model, ROWS[part], TARGETS[part], offsets[part], num_targets, num_tokens, count_weight)


@torch.inference_mode()
@pytest.mark.parametrize("k", [1, 2])
def test_without_the_count_it_is_the_mean_cross_entropy_of_the_targets(k):
    model = tiny_model(k)
    log_probabilities = model(input_ids=ROWS).logits.log_softmax(-1)
    losses = [-log_probabilities[r, t, TARGETS[r, t]] for r, t in (TARGETS != IGNORE_INDEX).nonzero().tolist()]
    assert len(losses) == 9
    assert torch.isclose(loss_of(model), torch.stack(losses).mean(), atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("n_layer", [1, 2, 3])
@pytest.mark.parametrize("count_weight", [0.0, 0.5])
def test_the_losses_of_slices_add_up(n_layer, count_weight):
    model = tiny_model(2, n_layer=n_layer)
    parts = [loss_of(model, part, count_weight) for part in (slice(0, 1), slice(1, 4))]
    assert torch.isclose(sum(parts), loss_of(model, count_weight=count_weight), atol=1e-5)


@torch.inference_mode()
def test_an_offset_moves_the_positions_of_digits_and_leaves_delimiters_at_0():
    model = tiny_model()
    shifted = torch.tensor([[3], [0], [1], [2]])
    positions = model.position_ids(ROWS)
    expected = torch.where(positions > 0, positions + shifted, 0)
    logits = model(input_ids=ROWS, position_ids=expected).logits
    is_target = TARGETS != IGNORE_INDEX
    by_hand = -logits.log_softmax(-1)[is_target].gather(1, TARGETS[is_target][:, None]).mean()
    assert torch.isclose(loss_of(model, offsets=shifted), by_hand, atol=1e-5)
    assert (loss_of(model, offsets=shifted) - loss_of(model)).abs() > 1e-4


def test_delimiters_are_counted_up_to_each_token_and_padding_is_not_asked():
    counts = delimiter_counts(ROWS, VOCABULARY.delimiter_id, VOCABULARY.pad_id)
    expected = []
    for row in ROWS.tolist():
        seen = -1
        for token in row:
            seen += token == VOCABULARY.delimiter_id
            expected.append(IGNORE_INDEX if token == VOCABULARY.pad_id else seen)
    assert counts.flatten().tolist() == expected
    assert set(expected) == {0, 1, 2, 3, IGNORE_INDEX}


def test_the_count_is_read_from_the_first_channels_and_is_cheap_where_they_say_it():
    counts = torch.tensor([[0, 1, 2, 3, IGNORE_INDEX]])
    saying = torch.zeros(1, 5, 16)
    saying[0, torch.arange(4), torch.arange(4)] = 5.0
    wrong = saying.roll(1, dims=1)
    assert counting_loss(saying, counts) < 0.1 < 4 < counting_loss(wrong, counts)
    nothing = counting_loss(torch.zeros(1, 5, 16), counts)
    assert nothing == pytest.approx(4 * torch.tensor(4.0).log().item(), rel=1e-5)
    assert counting_loss(torch.zeros(1, 5, 16), torch.full((1, 5), IGNORE_INDEX)) == 0


def test_the_count_pulls_on_the_early_blocks_and_not_on_the_later_ones():
    model = tiny_model(2, n_layer=4)
    with_count, without = {}, {}
    for count_weight, gradients in ((1.0, with_count), (0.0, without)):
        model.zero_grad()
        loss_of(model, count_weight=count_weight).backward()
        gradients.update({name: p.grad.clone() for name, p in model.named_parameters() if ".h." in name})
    changed = {name.split(".")[2] for name, g in with_count.items() if not torch.allclose(g, without[name], atol=1e-6)}
    assert changed == {"0", "1"}
