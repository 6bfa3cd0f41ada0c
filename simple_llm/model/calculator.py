"""A loaded model as something that calculates: prompts in, decimal answers out."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor

from simple_llm.arithmetic import OPERATIONS
from simple_llm.arithmetic.digits import DIGIT_ALPHABET, digits_of, NEGATIVE
from simple_llm.arithmetic.drawing import drawn
from simple_llm.arithmetic.integers import digit_count
from simple_llm.data.problems import from_written, Problems
from simple_llm.model.columns_decoding import Result
from simple_llm.model.decoding import Decoder
from simple_llm.model.folder import LoadedModel
from simple_llm.model.prompts import parse_prompt, Prompt
from simple_llm.model.tokens import prompt_tokens, read_results

NO_ANSWER = "no answer"
_SMALL = 18  # decimal digits that fit in 64 bits
_MOST_DIGITS = 2000  # beyond training: where each token sees all others, memory grows with the square of the length


@dataclass(frozen=True)
class Transcript:
    """What a model read and said to one prompt.

    Attributes:
        read: tokens it read: the prompt, and of the answer all but the last k tokens.
        said: tokens of the answer.
        says_at: for each of those, the index in `read` of the token at which it was said.
    """

    read: list[int]
    said: list[int]
    says_at: list[int]


class Calculator:
    """Answers prompts with a loaded model.

    Args:
        allow_longer: read prompts above the model's range too, as far as its position table has room.
    """

    def __init__(self, loaded: LoadedModel, device: torch.device, allow_longer: bool = False) -> None:
        self.loaded = loaded
        self.model = loaded.model.to(device)
        self.decoder = Decoder.of(self.model)
        self.vocabulary = loaded.vocabulary
        self.knows_every_length = loaded.train.model.knows_every_length
        most_digits = loaded.train.model.most_digits
        self.most_digits = min(most_digits or _MOST_DIGITS, _MOST_DIGITS) if allow_longer else None

    def parse(self, text: str) -> Prompt:
        """Read a prompt that this model can be asked; raises PromptError."""
        operations = self.loaded.operations
        numbers, has_columns = self.loaded.data.numbers, self.vocabulary.work_ids is not None
        return parse_prompt(text, numbers, self.knows_every_length, self.most_digits, operations, has_columns)

    def answer(self, prompts: list[Prompt], on_batch: Callable[[int], object] = lambda num_prompts: None) -> list[str]:
        """Answer prompts, in their order: decimal, or NO_ANSWER where the model did not end it or said no number.

        Args:
            on_batch: called with the number of prompts just answered; what it raises ends the work.
        """
        if not prompts:
            return []
        problems = self._problems(prompts)
        tokens = prompt_tokens(problems, self.vocabulary)  # (N, T)
        if self.vocabulary.work_ids:
            return [self._shown(*self._read_off(result)) for result in self.decoder.results(tokens, on_batch)]
        answers = self.decoder.decode(tokens, self._max_answer_tokens(prompts, problems), on_batch=on_batch)
        results = self._results(tokens, answers.tokens)
        return [
            self._shown(*(result if is_finished and result else (None,)))
            for result, is_finished in zip(results, answers.is_finished.tolist(), strict=True)
        ]

    @staticmethod
    def _shown(answer: object, rest: object = 0) -> str:
        """An answer for people: 31 r 6 where something is left, NO_ANSWER where there is none."""
        if answer is None:
            return NO_ANSWER
        return f"{answer} r {rest}" if str(rest) != "0" else str(answer)

    def _read_off(self, result: Result | None) -> tuple[str | None, ...]:
        """A result of work on paper in decimal digits: the answer, and what is left."""
        if result is None:
            return (None,)
        parts = [result.digits] if result.rest is None else [result.digits, result.rest]
        texts = ["".join(DIGIT_ALPHABET[digit] for digit in digits) for digits in parts]
        answer, *rest = map(self.loaded.tokenizer.read_number, texts)
        return (f"{NEGATIVE * result.is_negative}{answer}", *rest)

    def trace(self, prompt: Prompt) -> str:
        """Show the tokens, their positions, and what each step said.

        tokens     + E 3 5 + F 6 3 + D A 8 +      two tokens a step, where they went
        positions  0 1 2 3 0 1 2 3 0 1 2 3 0
        step 1     . . . . . . . . . D A
        step 2     . . . . . . . . . . . 8 +

        tokens     + E 3 5 + F 6 3 +              all at once, under the tokens that said them
        positions  0 1 2 3 0 1 2 3 0
        step 1     . . . . . D A 8 +

        Work on paper is drawn, see arithmetic/drawing.py.
        """
        if self.vocabulary.work_ids:
            return self._drawn(prompt)
        transcript = self.transcript(prompt)
        k = self.model.config.tokens_per_step
        unread = [] if k == "all" else transcript.said[-k:]
        row = transcript.read + unread
        write = self.loaded.tokenizer.convert_ids_to_tokens
        tokens, said_tokens = write(row), write(transcript.said)
        positions = self.model.position_ids(torch.tensor([row], device=self.model.device))[0].tolist()
        lines = [("tokens", tokens), ("positions", [str(position) for position in positions])]
        if k == "all":
            lines.append(("step 1", ["."] * transcript.says_at[0] + said_tokens))
        else:
            num_prompt = len(row) - len(said_tokens)
            for number, first in enumerate(range(0, len(said_tokens), k), 1):
                lines.append((f"step {number}", ["."] * (num_prompt + first) + said_tokens[first : first + k]))
        width = max(len(cell) for _, cells in lines for cell in cells)
        return "\n".join(f"{name:9}  " + " ".join(cell.rjust(width) for cell in cells) for name, cells in lines)

    def _drawn(self, prompt: Prompt) -> str:
        """Draw the work on a problem."""
        tokens = prompt_tokens(self._problems([prompt]), self.vocabulary)  # (1, T)
        said = self.decoder.decode(tokens).tokens
        symbol_of = {token: symbol for symbol, token in enumerate(self.vocabulary.work_ids)}
        text = torch.cat([tokens, said], dim=1)[0].tolist()
        return drawn([symbol_of[token] for token in text if token in symbol_of], self.vocabulary.base)

    def transcript(self, prompt: Prompt) -> Transcript:
        """Answer one prompt, and tell what was said where."""
        problem = self._problems([prompt])
        prompt_row = prompt_tokens(problem, self.vocabulary)  # (1, T)
        has_no_limit = self.vocabulary.work_ids is not None
        most = [] if has_no_limit else [self._max_answer_tokens([prompt], problem)]
        [said_row] = self.decoder.decode(prompt_row, *most).tokens
        said, read, k = said_row.tolist(), prompt_row[0].tolist(), self.model.config.tokens_per_step
        if k == "all":
            digits = set(self.vocabulary.digit_ids)
            start = next(index for index, token in enumerate(read) if index and token not in digits) + 1
            said = said[: len(read) - start]
        if self.vocabulary.end_id in said:
            said = said[: said.index(self.vocabulary.end_id) + 1]
        if k != "all":
            start = len(read) - k
            read = read + said[:-k]
        return Transcript(read, said, list(range(start, start + len(said))))

    def _problems(self, prompts: list[Prompt]) -> Problems:
        base = self.loaded.data.numbers.base
        which = np.array([OPERATIONS.index(prompt.operation) for prompt in prompts], np.uint8)
        if max(len(number) for prompt in prompts for number in prompt.numbers) <= _SMALL:
            values = [*zip_longest(*([int(number) for number in prompt.numbers] for prompt in prompts), fillvalue=0)]
            width = digit_count(max(map(max, values)), base)
            x, y, *more = (digits_of(column, base, width) for column in values)
            num_more = np.array([len(prompt.more) for prompt in prompts]) if more else None
            return Problems(x, y, base, which, tuple(more), num_more)
        write = self.loaded.tokenizer.write_number  # any number of digits, in a moment
        written = [[write(number) for number in prompt.numbers] for prompt in prompts]
        if not self.vocabulary.reversed:
            written = [[number[::-1] for number in numbers] for numbers in written]
        return from_written(written, base, which)

    def _max_answer_tokens(self, prompts: list[Prompt], problems: Problems) -> int:
        """The longest answer to these lengths, and what ends it."""
        if self.knows_every_length or any(prompt.is_longer for prompt in prompts):
            width = problems.x.shape[0]
            has_columns = all(prompt.operation.step for prompt in prompts)  # a product is longer, and so are two parts
            return width + 2 if has_columns else 2 * width + 2
        return self.loaded.data.answer_tokens

    def _results(self, prompts: Tensor, tokens: Tensor) -> list[tuple[int | str | None, ...] | None]:
        """Answers as decimal numbers, None where they are none: (N, T), (N, A) -> N."""
        if tokens.size(1) <= _SMALL or any(one.leaves_rest for one in self.loaded.operations):
            return read_results(prompts, tokens, self.vocabulary)
        return [(self._value(row),) for row in tokens]

    def _value(self, tokens: Tensor) -> str | None:
        """The same of one answer, (A,), of any length."""
        said, end, padding = tokens.tolist(), self.vocabulary.delimiter_id, self.vocabulary.pad_id
        num_said = said.index(end) if end in said else len(said)
        while end not in said and num_said and said[num_said - 1] == padding:
            num_said -= 1
        is_negative = num_said > 1 and said[num_said - 1] == self.vocabulary.sign_id and self.vocabulary.reversed
        if not num_said or not set(said[: num_said - is_negative]) <= set(self.vocabulary.digit_ids):
            return None
        tokenizer = self.loaded.tokenizer
        return tokenizer.read_number("".join(tokenizer.convert_ids_to_tokens(said[:num_said])))
