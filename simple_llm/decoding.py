"""Greedy decoding in batches: prompts in, answers out, k tokens a step, keys and values cached.

Shape letters in this file: N prompts, B prompts in a batch, T tokens of the longest prompt, A tokens of the longest
answer, V tokens in the vocabulary, k tokens a step.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from simple_llm.batches import pad_left
from simple_llm.modeling_simple_llm import SimpleLLMForCausalLM


@dataclass(frozen=True)
class Answers:
    """What the model said to N prompts.

    Attributes:
        tokens: (N, A) up to and with the delimiter that ends the answer, then padding.
        is_finished: (N,) whether that delimiter was said.
        logits: (N, A, V) that each token was chosen by, or None where they were not kept.
    """

    tokens: Tensor
    is_finished: Tensor
    logits: Tensor | None


@torch.inference_mode()
def decode_greedily(
    model: SimpleLLMForCausalLM,
    prompts: Tensor,
    max_answer_tokens: int,
    batch_size: int = 1024,
    keep_logits: bool = False,
    on_batch: Callable[[int], object] = lambda num_prompts: None,
) -> Answers:
    """Answer every prompt with the most likely token at each place.

    Prompts of like length are answered together, shorter ones padded on the left; the order of the answers is
    the order of the prompts.

    Args:
        prompts: (N, T) rows `+x+y+`, padded on the right.
        max_answer_tokens: A; an answer that has not ended by then stays unfinished.
        batch_size: prompts answered at a time.
        on_batch: called with the number of prompts just answered; what it raises ends the work.
    """
    pad_id = model.config.pad_token_id
    length = (prompts != pad_id).sum(1)  # (N,)
    order = length.argsort(stable=True)
    tokens = torch.full((len(prompts), max_answer_tokens), pad_id)
    logits = torch.zeros(len(prompts), max_answer_tokens, model.config.vocab_size) if keep_logits else None
    for index in order.split(batch_size) if len(prompts) else ():
        batch = pad_left(prompts[index, : int(length[index].max())], pad_id).to(model.device)  # (B, T)
        said, said_logits = _decode_batch(model, batch, max_answer_tokens)
        tokens[index] = said.cpu()
        if logits is not None:
            logits[index] = said_logits.cpu()
        on_batch(len(index))
    is_end = tokens == model.config.eos_token_id
    return Answers(tokens, is_end.any(1), logits)


def _decode_batch(model: SimpleLLMForCausalLM, prompts: Tensor, max_answer_tokens: int) -> tuple[Tensor, Tensor]:
    """Answer one batch of left-padded prompts.

    The first pass reads the prompt, (B, T); each further one reads only the k tokens said before it:

        12+873+        k = 2: pass 1 says 99 at "3+", pass 2 reads 99 and says 3+

    Returns:
        tokens (B, A) and the logits they were chosen by, (B, A, V).
    """
    k = model.config.tokens_per_step
    pad_id, end_id = model.config.pad_token_id, model.config.eos_token_id
    row = new_tokens = prompts
    mask = (prompts != pad_id).long()
    said_logits: list[Tensor] = []
    is_finished = torch.zeros(len(prompts), dtype=torch.bool, device=prompts.device)
    cache = None
    for _ in range(0, max_answer_tokens, k):
        positions = model.position_ids(row, mask)[:, -new_tokens.size(1) :]
        output = model(
            input_ids=new_tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=k,
        )
        cache = output.past_key_values
        said_logits.append(output.logits.float())  # (B, k, V)
        new_tokens = output.logits.argmax(-1)  # (B, k)
        row = torch.cat([row, new_tokens], dim=1)
        mask = torch.cat([mask, torch.ones_like(new_tokens)], dim=1)
        is_finished |= (new_tokens == end_id).any(1)
        if is_finished.all():
            break
    answer = row[:, prompts.size(1) :][:, :max_answer_tokens]
    logits = torch.cat(said_logits, dim=1)[:, :max_answer_tokens]
    has_ended = (answer == end_id).cumsum(1)
    answer = torch.where((has_ended - (answer == end_id).long()) > 0, pad_id, answer)  # nothing after the end
    num_missing = max_answer_tokens - answer.size(1)
    return (
        torch.nn.functional.pad(answer, (0, num_missing), value=pad_id),
        torch.nn.functional.pad(logits, (0, 0, 0, num_missing)),
    )
