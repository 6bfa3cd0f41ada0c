"""Greedy decoding by its definition: whole rows, no cache, no batch, no padding."""

import torch


def say_alone(model, prompt: list[int], max_answer_tokens: int) -> list[int]:
    """What a model says to one prompt `+x+y+`, up to and with the token that ends the answer."""
    end, k = model.config.eos_token_id, model.config.tokens_per_step
    if k == "all":
        second = prompt.index(end, 1) + 1  # the first digit of the second operand
        said = model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, second:].argmax(-1).tolist()
        said = said[: said.index(end) + 1] if end in said else said
        return said[:max_answer_tokens]
    row = list(prompt)
    while True:
        for token in model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -k:].argmax(-1).tolist():
            row.append(token)
            if token == end or len(row) == len(prompt) + max_answer_tokens:
                return row[len(prompt) :]
