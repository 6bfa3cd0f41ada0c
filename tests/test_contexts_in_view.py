"""A text as contexts: what each token sees is found, and to learn contexts is to learn texts."""

import random

import pytest
import torch

from simple_llm.arithmetic import OPERATIONS
from simple_llm.data.problems import concatenate, from_integers
from simple_llm.model.contexts_in_view import context_logits, distinct, in_view_of_work
from simple_llm.model.places_simple_llm import IGNORE_INDEX
from simple_llm.model.tokens import make_examples
from simple_llm.training.learner import TrainingLoss
from tests.test_context_engine import contexts_of
from tests.test_grid import EXAMPLES, grid_model, padded, tokens_of
from tests.tiny_models import make_vocabulary

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("tested_libraries")]


def as_sets(tokens: torch.Tensor, kinds: torch.Tensor, is_seen: torch.Tensor) -> list[tuple]:
    """Of each context what is seen, in whatever order, and what asks."""
    return [
        (sorted(zip(row[seen].tolist(), kind[seen].tolist(), strict=True)), (int(row[-1]), int(kind[-1])))
        for row, kind, seen in zip(tokens, kinds, is_seen, strict=True)
    ]


def test_what_is_in_view_is_what_the_mask_shows() -> None:
    model, tokens = grid_model(), padded(EXAMPLES)
    *expected, _ = contexts_of(model, EXAMPLES)
    assert as_sets(*in_view_of_work(tokens, model.grid(tokens))) == as_sets(*expected)


def test_distinct_contexts_with_their_counts_are_all_there_are() -> None:
    model, tokens = grid_model(), padded([*EXAMPLES, *EXAMPLES[:2]])
    contexts = in_view_of_work(tokens, model.grid(tokens))
    targets = torch.arange(len(contexts.tokens)) % 3
    fewer, fewer_targets, counts = distinct(contexts, targets)
    expected = [(context, int(target)) for context, target in zip(as_sets(*contexts), targets, strict=True)]
    found = [(context, int(target)) for context, target in zip(as_sets(*fewer), fewer_targets, strict=True)]
    assert len(found) < len(expected)
    for pair, count in zip(found, counts.tolist(), strict=True):
        assert expected.count(pair) == count
    assert sum(counts.tolist()) == len(expected)


def test_the_loss_and_its_gradients_are_those_of_the_whole_texts() -> None:
    draw = random.Random(3)
    parts = []
    for operation in OPERATIONS:
        numbers = lambda: tuple(draw.randrange(1, 10 ** draw.randrange(1, 5)) for _ in range(2))  # noqa: E731
        parts.append(from_integers([numbers() for _ in range(6)], 10, 4, operation))
    model = grid_model()  # dropout off
    digits = tokens_of("0123456789")
    work_ids = (*digits, *tokens_of("⁰¹²³⁴⁵⁶⁷⁸⁹"), *tokens_of("|+-*/="))
    vocabulary = make_vocabulary(operations=OPERATIONS)
    vocabulary = vocabulary.__class__(tuple(digits), 0, 0, (1, 1, 1, 1), work_ids=work_ids)
    batch = make_examples(concatenate(parts), vocabulary).to(model.device)
    num_targets = (batch.targets != IGNORE_INDEX).sum()
    one = TrainingLoss(model, 1.0)(batch, torch.zeros(len(batch), 1), num_targets, num_targets)
    one.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    output = model(input_ids=batch.inputs)
    other = torch.nn.functional.cross_entropy(
        output.logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE_INDEX
    )
    other.backward()
    torch.testing.assert_close(one, other)
    for mine, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-3, atol=1e-5)


def test_logits_of_contexts_are_those_of_the_engine() -> None:
    model, tokens = grid_model(), padded(EXAMPLES)
    contexts = in_view_of_work(tokens, model.grid(tokens))
    with torch.inference_mode():
        grid = model.grid(tokens)
        torch.testing.assert_close(
            context_logits(model, contexts), model(input_ids=tokens).logits[grid.is_work], rtol=1e-5, atol=1e-5
        )
