"""A loaded model as something that adds: prompts in, decimal answers out."""

from dataclasses import dataclass

import torch

from simple_llm.batches import prompt_tokens
from simple_llm.decoding import decode_greedily
from simple_llm.model_folder import LoadedModel, vocabulary_of
from simple_llm.problems import from_integers
from simple_llm.prompts import Prompt

NO_ANSWER = "no answer"


@dataclass(frozen=True)
class Reply:
    """What the model said to one prompt.

    Attributes:
        answer: decimal, without leading zeros; NO_ANSWER where the model did not end it or said no number.
        token_ids: prompt and answer as the model saw and said them.
        num_prompt_tokens: how many of them were the prompt.
    """

    prompt: Prompt
    answer: str
    token_ids: list[int]
    num_prompt_tokens: int

    def __str__(self) -> str:
        return f"{self.prompt}={self.answer}"


class Adder:
    """Answers prompts with a loaded model."""

    def __init__(self, loaded: LoadedModel, device: torch.device) -> None:
        self.loaded = loaded
        self.model = loaded.model.to(device)
        self.vocabulary = vocabulary_of(loaded.tokenizer)

    def answer(self, prompts: list[Prompt]) -> list[Reply]:
        """Answer prompts in one go, in their order."""
        data, tokenizer = self.loaded.data, self.loaded.tokenizer
        pairs = ((int(prompt.x), int(prompt.y)) for prompt in prompts)
        problems = from_integers(pairs, data.numbers.base, data.operand_digits)
        tokens = prompt_tokens(problems, self.vocabulary)  # (N, T)
        answers = decode_greedily(self.model, tokens, data.answer_digits + 1)
        replies = []
        for prompt, row, said, is_finished in zip(prompts, tokens, answers.tokens, answers.is_finished, strict=True):
            prompt_ids = row[row != self.vocabulary.pad_id].tolist()
            said_ids = said[said != self.vocabulary.pad_id].tolist()
            replies.append(
                Reply(
                    prompt, self._read(tokenizer, said_ids, bool(is_finished)), prompt_ids + said_ids, len(prompt_ids)
                )
            )
        return replies

    def _read(self, tokenizer, said_ids: list[int], is_finished: bool) -> str:
        digits = said_ids[:-1]
        if not is_finished or not digits or not set(digits) <= set(self.vocabulary.digit_ids):
            return NO_ANSWER
        return tokenizer.read_number("".join(tokenizer.convert_ids_to_tokens(digits)))

    def trace(self, reply: Reply) -> str:
        """Show the tokens, their positions, and what each step said, aligned under each other.

        tokens     + E 3 5 + F 6 3 + D A 8 +
        positions  0 1 2 3 0 1 2 3 0 1 2 3 0
        step 1     . . . . . . . . . D A
        step 2     . . . . . . . . . . . 8 +
        """
        tokens = self.loaded.tokenizer.convert_ids_to_tokens(reply.token_ids)
        positions = self.model.position_ids(torch.tensor([reply.token_ids], device=self.model.device))[0].tolist()
        k, start = self.model.config.tokens_per_step, reply.num_prompt_tokens
        lines = [("tokens", tokens), ("positions", [str(position) for position in positions])]
        for number, first in enumerate(range(start, len(tokens), k), 1):
            lines.append((f"step {number}", ["."] * first + tokens[first : first + k]))
        width = max(len(cell) for _, cells in lines for cell in cells)
        return "\n".join(f"{name:9}  " + " ".join(cell.rjust(width) for cell in cells) for name, cells in lines)
