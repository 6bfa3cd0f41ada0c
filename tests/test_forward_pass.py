"""The pass that training differentiates says what transformers' own pass says, and has its gradient."""

import pytest
import torch
from torch import Tensor

from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.model.places_simple_llm import IGNORE_INDEX
from simple_llm.model.tokens import Examples, make_examples
from simple_llm.training.forward_pass import Chosen, logits_after
from tests.tiny_models import all_pairs, make_vocabulary, tiny_model

pytestmark = pytest.mark.library

KINDS_OF_MODELS = {
    "one token": {},
    "two tokens": {"tokens_per_step": 2},
    "one pass": {"tokens_per_step": "all"},
    "one block": {"n_layer": 1},
    "a window": {"attention_window": {"left": 1, "right": 1}},
    "a table that comes again": {"position_period": 2, "n_positions": 3},
    "sinusoids": {"position_embedding": "sinusoidal"},
    "sinusoids by place": {"position_embedding": "block_sinusoidal"},
    "positions by column": {"position_embedding": "learned", "n_positions": 16},
    "no positions": {"position_embedding": "none"},
    "the tanh form of GELU": {"activation_function": "gelu_new"},
}


def model_and_rows(settings: dict) -> tuple[SimpleLLMForCausalLM, Examples]:
    """A tiny model with weights large enough to tell tokens apart, and rows of many lengths."""
    torch.manual_seed(0)
    model = tiny_model(**{"n_layer": 3, **settings})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    vocabulary = make_vocabulary(tokens_per_step=settings.get("tokens_per_step", 1))
    return model, make_examples(all_pairs(120)[torch.randperm(121**2)[:40].numpy()], vocabulary)


def gradient_of(model: SimpleLLMForCausalLM, loss: Tensor) -> Tensor:
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
    return torch.cat([one.flatten() for one in found])


@pytest.mark.parametrize("settings", KINDS_OF_MODELS.values(), ids=KINDS_OF_MODELS)
def test_logits_and_gradients_are_those_of_transformers(settings):
    model, rows = model_and_rows(settings)
    n_layer = model.config.n_layer
    is_asked = {n_layer: rows.targets != IGNORE_INDEX}
    if n_layer > 1:
        is_asked[1] = rows.place_targets != IGNORE_INDEX
    made = logits_after(model, rows.inputs, model.position_ids(rows.inputs), is_asked)
    theirs = model(input_ids=rows.inputs, output_hidden_states=True)
    expected = {
        number: (
            theirs.logits if number == n_layer else model.lm_head(model.transformer.ln_f(theirs.hidden_states[number]))
        )[asked]
        for number, asked in is_asked.items()
    }
    losses = [sum(said[number].cos().sum() for number in is_asked) for said in (made, expected)]
    for number in is_asked:
        assert expected[number].std() > 0.1
        torch.testing.assert_close(made[number], expected[number], atol=1e-4, rtol=1e-4)
    ours, reference = (gradient_of(model, loss) for loss in losses)
    assert (ours - reference).norm() < 1e-4 * reference.norm()


def test_what_stands_behind_the_last_token_asked_is_not_read():
    model, rows = model_and_rows({})
    is_asked = {3: rows.targets != IGNORE_INDEX}
    behind = is_asked[3].flip(1).cumsum(1).flip(1) == 0
    assert behind.any()
    positions = model.position_ids(rows.inputs)
    told = [
        logits_after(model, torch.where(behind, other, rows.inputs), torch.where(behind, 99, positions), is_asked)[3]
        for other in (0, 5)
    ]
    assert torch.equal(*told)


@pytest.mark.parametrize("name", ["drop", "h.1.attn.attn_dropout", "h.1.attn.resid_dropout", "h.1.mlp.dropout"])
def test_each_dropout_of_the_model_is_applied(name):
    model, rows = model_and_rows({})
    is_asked = {3: rows.targets != IGNORE_INDEX}
    model.train().transformer.get_submodule(name).p = 0.5
    positions = model.position_ids(rows.inputs)
    without, other = (logits_after(one, rows.inputs, positions, is_asked)[3] for one in (model.eval(), model.train()))
    assert not torch.equal(without, other)


def test_few_tokens_are_multiplied():
    model, rows = model_and_rows({"tokens_per_step": 2})
    is_asked = {3: rows.targets != IGNORE_INDEX}
    seen = []
    for block in model.transformer.h:
        block.mlp.register_forward_pre_hook(lambda module, arguments: seen.append(len(arguments[0])))
    logits_after(model, rows.inputs, model.position_ids(rows.inputs), is_asked)
    lengths = [max(index for index, asked in enumerate(row) if asked) + 1 for row in is_asked[3].tolist()]
    assert seen == [sum(lengths), sum(lengths), int(is_asked[3].sum())]
    assert seen[0] < rows.inputs.numel()


def test_chosen_tokens_are_taken_and_spread_to_where_they_were():
    is_chosen = torch.tensor([[True, True, False], [False, True, False]])
    chosen = Chosen.of(is_chosen)
    values = torch.arange(12.0).view(2, 3, 2)
    assert chosen.take(values).tolist() == [[0, 1], [2, 3], [8, 9]]
    assert chosen.take(values[..., 0]).tolist() == [0, 2, 8]
    assert torch.equal(chosen.spread(chosen.take(values)), values * is_chosen[..., None])
