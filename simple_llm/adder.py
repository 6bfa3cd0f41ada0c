"""A loaded model as something that adds: prompts in, decimal answers out."""

import torch

from simple_llm.batches import prompt_tokens, read_answers
from simple_llm.decoding import Decoder
from simple_llm.model_folder import LoadedModel, vocabulary_of
from simple_llm.problems import from_integers, Problems
from simple_llm.prompts import Prompt

NO_ANSWER = "no answer"


class Adder:
    """Answers prompts with a loaded model."""

    def __init__(self, loaded: LoadedModel, device: torch.device) -> None:
        self.loaded = loaded
        self.model = loaded.model.to(device)
        self.decoder = Decoder.of(self.model)
        self.vocabulary = vocabulary_of(loaded.tokenizer)

    def answer(self, prompts: list[Prompt]) -> list[str]:
        """Answer prompts, in their order: decimal, or NO_ANSWER where the model did not end it or said no number."""
        tokens = prompt_tokens(self._problems(prompts), self.vocabulary)  # (N, T)
        answers = self.decoder.decode(tokens, self.loaded.data.answer_digits + 1)
        values = read_answers(answers.tokens, self.vocabulary)
        return [
            NO_ANSWER if value is None or not is_finished else str(value)
            for value, is_finished in zip(values, answers.is_finished.tolist(), strict=True)
        ]

    def trace(self, prompt: Prompt) -> str:
        """Show the tokens, their positions, and what each step said.

        tokens     + E 3 5 + F 6 3 + D A 8 +      two tokens a step, where they went
        positions  0 1 2 3 0 1 2 3 0 1 2 3 0
        step 1     . . . . . . . . . D A
        step 2     . . . . . . . . . . . 8 +

        tokens     + E 3 5 + F 6 3 +              all at once, under the tokens that said them
        positions  0 1 2 3 0 1 2 3 0
        step 1     . . . . . D A 8 +
        """
        [prompt_row] = prompt_tokens(self._problems([prompt]), self.vocabulary)
        [said_row] = self.decoder.decode(prompt_row[None], self.loaded.data.answer_digits + 1).tokens
        said = said_row[said_row != self.vocabulary.pad_id]
        k = self.model.config.tokens_per_step
        row = prompt_row if k == "all" else torch.cat([prompt_row, said])
        write = self.loaded.tokenizer.convert_ids_to_tokens
        tokens, said_tokens = write(row.tolist()), write(said.tolist())
        positions = self.model.position_ids(row[None].to(self.model.device))[0].tolist()
        lines = [("tokens", tokens), ("positions", [str(position) for position in positions])]
        if k == "all":
            [[start]] = (prompt_row == self.vocabulary.delimiter_id).nonzero()[1:2].tolist()
            lines.append(("step 1", ["."] * (start + 1) + said_tokens))
        else:
            for number, first in enumerate(range(0, len(said), k), 1):
                lines.append((f"step {number}", ["."] * (len(prompt_row) + first) + said_tokens[first : first + k]))
        width = max(len(cell) for _, cells in lines for cell in cells)
        return "\n".join(f"{name:9}  " + " ".join(cell.rjust(width) for cell in cells) for name, cells in lines)

    def _problems(self, prompts: list[Prompt]) -> Problems:
        data = self.loaded.data
        pairs = [(int(prompt.x), int(prompt.y)) for prompt in prompts]
        return from_integers(pairs, data.numbers.base, data.operand_digits)
