import pytest
import torch

from simple_llm.model.places_simple_llm import IGNORE_INDEX
from simple_llm.model.tokens import Examples
from simple_llm.training.learner import TrainingLoss
from tests.tiny_models import make_vocabulary, tiny_model

pytestmark = pytest.mark.library

VOCABULARY = make_vocabulary()


def tokens_of(text: str) -> list[int]:
    """Token IDs of digits and +; P is padding."""
    special = {"+": VOCABULARY.delimiter_id, "P": VOCABULARY.pad_id}
    return [special[character] if character in special else 3 + int(character) for character in text]


ROWS = torch.tensor([tokens_of(row) for row in ("+12+873+993+", "+1+2+3+PPPPP", "+0+0+0+PPPPP", "+9999+1+0000")])
TARGETS = torch.full((4, 12), IGNORE_INDEX)
TARGETS[0, 6:10], TARGETS[1, 3:5], TARGETS[2, 3:5], TARGETS[3, 6] = 5, 7, 3, 11
PLACE_TARGETS = torch.full((4, 12), IGNORE_INDEX)
PLACE_TARGETS[0, 4:7], PLACE_TARGETS[1, 3], PLACE_TARGETS[3, 6] = 9, 6, 3
NO_OFFSET = torch.zeros(4, 1, dtype=torch.long)


def loss_of(model, part=slice(None), deep_supervision: float = 0.0, offsets=NO_OFFSET) -> torch.Tensor:
    num_targets, num_place_targets = TARGETS.ne(IGNORE_INDEX).sum(), PLACE_TARGETS.ne(IGNORE_INDEX).sum()
    batch = Examples(ROWS, TARGETS, PLACE_TARGETS)[part]
    return TrainingLoss(model, deep_supervision)(batch, offsets[part], num_targets, num_place_targets)


@torch.inference_mode()
@pytest.mark.parametrize("k", [1, 2])
def test_without_deep_supervision_it_is_the_mean_cross_entropy_of_the_targets(k):
    model = tiny_model(k)
    log_probabilities = model(input_ids=ROWS).logits.log_softmax(-1)
    losses = [-log_probabilities[r, t, TARGETS[r, t]] for r, t in (TARGETS != IGNORE_INDEX).nonzero().tolist()]
    assert len(losses) == 9
    assert torch.isclose(loss_of(model), torch.stack(losses).mean(), atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("n_layer", [1, 2, 3])
@pytest.mark.parametrize("deep_supervision", [0.0, 0.5])
def test_the_losses_of_slices_add_up(n_layer, deep_supervision):
    model = tiny_model(2, n_layer=n_layer)
    parts = [loss_of(model, part, deep_supervision) for part in (slice(0, 1), slice(1, 4))]
    assert torch.isclose(sum(parts), loss_of(model, deep_supervision=deep_supervision), atol=1e-5)


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


@torch.inference_mode()
@pytest.mark.parametrize(("n_layer", "num_blocks"), [(2, 1), (3, 1), (4, 2)])
def test_the_state_after_the_middle_block_is_asked_for_the_place_targets(n_layer, num_blocks):
    model = tiny_model(2, n_layer=n_layer)
    lower_half = tiny_model(2, n_layer=num_blocks)  # reading the state there is what a model that ends there does
    lower_half.load_state_dict(model.state_dict(), strict=False)
    log_probabilities = lower_half(input_ids=ROWS).logits.log_softmax(-1)
    is_target = PLACE_TARGETS != IGNORE_INDEX
    by_hand = -log_probabilities[is_target].gather(1, PLACE_TARGETS[is_target][:, None]).mean()
    assert torch.isclose(loss_of(model, deep_supervision=0.5) - loss_of(model), 0.5 * by_hand, atol=1e-5)


def test_a_model_of_one_block_has_no_middle_to_ask():
    model = tiny_model(2, n_layer=1)
    assert loss_of(model, deep_supervision=1.0) == loss_of(model)


def test_deep_supervision_pulls_on_the_lower_blocks_and_not_on_the_upper_ones():
    model = tiny_model(2, n_layer=4)
    supervised, plain = {}, {}
    for deep_supervision, gradients in ((1.0, supervised), (0.0, plain)):
        model.zero_grad()
        loss_of(model, deep_supervision=deep_supervision).backward()
        gradients.update({name: p.grad.clone() for name, p in model.named_parameters() if ".h." in name})
    changed = {name.split(".")[2] for name, g in supervised.items() if not torch.allclose(g, plain[name], atol=1e-6)}
    assert changed == {"0", "1"}
