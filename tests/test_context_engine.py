"""The tables of a model of one block: asked for what a token sees, they say what the model says at that token."""

import random

import pytest
import torch

from simple_llm.model.context_engine import ContextEngine
from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.model.places_simple_llm import in_view
from tests.paper import written
from tests.test_grid import EXAMPLES, grid_model, padded
from tests.tiny_models import tiny_model

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("tested_libraries")]


def contexts_of(model: SimpleLLMForCausalLM, texts: list[str]) -> tuple[torch.Tensor, ...]:
    """Tokens, kinds and what is seen, (N, L) each, of every token of the work, and the logits there, (N, V)."""
    tokens = padded(texts)
    grid = model.grid(tokens)
    length = tokens.size(1)
    comes_before = torch.ones(length, length, dtype=torch.bool).tril()
    sees = in_view(grid.looks, grid.addresses) & comes_before  # (B, T, T)
    row, asks = grid.is_work.nonzero(as_tuple=True)
    with_own = torch.cat([torch.arange(length).expand(len(row), -1), asks[:, None]], dim=1)  # (N, T + 1)
    is_seen = torch.nn.functional.pad(sees[row, asks], (0, 1))
    with torch.inference_mode():
        logits = model(input_ids=tokens).logits[row, asks]
    return tokens[row[:, None], with_own], grid.kinds[row[:, None], with_own], is_seen, logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_it_says_is_what_the_model_says(dtype: torch.dtype) -> None:
    draw = random.Random(5)
    numbers = lambda count: [draw.randrange(10 ** draw.randrange(1, 6)) for _ in range(count)]  # noqa: E731
    texts = EXAMPLES + [written("+", numbers(3), 10) for _ in range(5)] + [written("*", numbers(2), 10)]
    model = grid_model()
    tokens, kinds, is_seen, logits = contexts_of(model, texts)
    said = ContextEngine(model, dtype).logits(tokens, kinds, is_seen)
    assert said.dtype == dtype
    assert len(said) > 150
    torch.testing.assert_close(said.float(), logits, rtol=1e-5, atol=1e-5)


def test_what_is_not_seen_does_not_matter() -> None:
    model = grid_model()
    tokens, kinds, is_seen, _ = contexts_of(model, EXAMPLES)
    others = torch.where(is_seen, tokens, (tokens + 3) % model.config.vocab_size)
    others[:, -1] = tokens[:, -1]
    engine = ContextEngine(model, torch.float32)
    assert torch.equal(engine.logits(others, kinds, is_seen), engine.logits(tokens, kinds, is_seen))


def test_two_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="2 blocks"):
        ContextEngine(tiny_model(n_layer=2), torch.float32)
