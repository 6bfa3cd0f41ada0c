"""How many tokens of a product's work a second: all rows side by side, against one token at a time.

    python3 -m benchmarks.wavefront [--model models/calculator] [--digits 100] [--rounds 3]

    the wavefront          simple_llm.model.columns_decoding, a new one each round, so that it knows no context yet
    one token at a time    transformers' model.generate() with its cache, of the same weights

Both write the same work of a product of two random numbers, which is compared. Ways are timed in turn; one token at a
time takes minutes for 100 by 100 digits, which are 20,400 tokens or so.
"""

import argparse
import random

import torch

from benchmarks.report import in_turn, print_rates
from simple_llm import command_line
from simple_llm.arithmetic.multiplication import MULTIPLICATION
from simple_llm.errors import GateError
from simple_llm.model.columns_decoding import ColumnsDecoder
from simple_llm.model.folder import KEPT_MODEL
from simple_llm.model.network import load_network
from simple_llm.model.tokenization_simple_llm import SimpleLLMTokenizer


def main(arguments: argparse.Namespace) -> None:
    loaded, rng = load_network(arguments.model), random.Random(0)
    lowest = 10 ** (arguments.digits - 1)
    x, y = (rng.randrange(lowest, 10 * lowest) for _ in range(2))
    tokenizer = SimpleLLMTokenizer.from_pretrained(arguments.model)
    prompt = tokenizer(f"{MULTIPLICATION.write(x, y)}=", return_tensors="pt")["input_ids"]
    written: dict[str, torch.Tensor] = {}

    def wavefront() -> int:
        answers = ColumnsDecoder.of(loaded.model).decode(prompt)
        written["wavefront"] = answers.tokens[0]
        return answers.tokens.size(1)

    def one_at_a_time() -> int:
        most = written["wavefront"].numel()
        with torch.inference_mode():
            row = loaded.model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=most)
        written["one at a time"] = row[0, prompt.size(1) :]
        return row.size(1) - prompt.size(1)

    rates = in_turn({"the wavefront": wavefront, "one token at a time": one_at_a_time}, arguments.rounds)
    if not torch.equal(written["wavefront"], written["one at a time"]):
        raise GateError("the two wrote different work")
    print_rates(rates, "tokens", digits=arguments.digits, tokens=written["wavefront"].numel())


if __name__ == "__main__":
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", type=command_line.path, default=KEPT_MODEL, metavar="DIR")
    made.add_argument("--digits", type=command_line.positive_integer, default=100, metavar="N")
    made.add_argument("--rounds", type=command_line.positive_integer, default=3, metavar="N")
    command_line.run(main, made.parse_args())
