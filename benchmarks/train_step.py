"""Problems a second while training the 6.3-million-parameter model, against the plain Hugging Face recipe.

    python3 -m benchmarks.train_step [--rounds N] [--steps N] [--batch-size B] [--device cpu]

Ours is trainer.py's own step, from all rows of a batch (training.hard_rows=null): rows tokenized once, bf16 autocast
where the processor or the GPU has it, Muon and AdamW, batches of 128 unless another size is given. The plain recipe is
the same GPT-2 with its own defaults (fp32, its default attention and activation), AdamW, batches of 1,024, each row
tokenized when it is asked for. Both run on a GPU where there is one. Evaluation and saving are in neither.

The third line is what the machine could do: the problems a second if all operations of ours (6 a parameter and token,
Kaplan et al., arXiv 2001.08361) went as fast as a large matrix product. So 0.25 times as fast is a utilisation of 25%.
"""

import argparse
import itertools
from collections.abc import Callable

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.report import in_turn, print_rates
from simple_llm.config.settings import DataConfig, TrainConfig, Training
from simple_llm.data.dataset import row_format
from simple_llm.data.sampling import Sampler
from simple_llm.machine import resolve_device, resolve_precision
from simple_llm.model.tokenizer_files import vocabulary_of
from simple_llm.training.learner import build_model, make_learner
from tokenizer import train_tokenizer
from trainer import prepare_data

NUM_ROWS = 20_000
PLAIN_BATCH_SIZE = 1024
PRODUCT_SIZE = 2048  # rows and columns of the matrices whose product is the machine's ceiling


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--steps", type=int, default=16, help="of ours a round; the plain recipe does one")
    made.add_argument("--batch-size", type=int, default=Training().batch_size, help="of ours")
    made.add_argument("--plain-batch-size", type=int, default=PLAIN_BATCH_SIZE, help="of the plain recipe")
    made.add_argument("--device", default="auto", help="auto, cpu or cuda")
    arguments = made.parse_args()
    device = resolve_device(arguments.device)
    data, train = DataConfig(), TrainConfig(training=Training(batch_size=arguments.batch_size))
    problems = Sampler.of(data.numbers).uniform(np.random.default_rng(0), NUM_ROWS)
    lines = row_format(data).write(problems).decode().splitlines()
    tokenizer = train_tokenizer(["+" + line.replace("|", "+") + "+" for line in lines], data, train)

    ours = our_steps(data, train, problems, tokenizer, device)
    plain = plain_steps(lines, tokenizer, arguments.plain_batch_size, device)

    def ours_round() -> int:
        return sum(itertools.islice(ours, arguments.steps))

    def plain_round() -> int:
        return next(plain)

    for warm_up in (ours, plain):
        next(warm_up)
    dtype = resolve_precision("auto", device)
    model = build_model(data, train, tokenizer)
    operations = 6 * model.num_parameters() * (data.row_tokens - train.model.tokens_per_step)  # a problem
    ways = {
        "simple-llm": ours_round,
        "plain recipe": plain_round,
        "a matrix product": products(dtype, operations, device),
    }
    rates = in_turn(ways, arguments.rounds)
    print_rates(
        rates,
        "problems",
        precision=str(dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        device=device.type,
        operations_a_problem=operations,
    )


def products(dtype: torch.dtype, operations: int, device: torch.device) -> Callable[[], float]:
    """Multiply large matrices ten times; return how many problems would take as many operations."""
    left, right = (torch.randn(PRODUCT_SIZE, PRODUCT_SIZE).to(device, dtype) for _ in range(2))

    def multiply() -> float:
        for _ in range(10):
            left @ right
        return 10 * 2 * PRODUCT_SIZE**3 / operations

    multiply()
    return multiply


def our_steps(data: DataConfig, train: TrainConfig, problems, tokenizer, device: torch.device):
    """Take trainer.py's steps; yield the problems of each."""
    torch.manual_seed(0)
    learner = make_learner(build_model(data, train, tokenizer).to(device), train.training)
    rows = prepare_data(problems, data, train, vocabulary_of(tokenizer, train.model.tokens_per_step))
    for step in itertools.count():
        learner.step(rows.training, step)
        yield train.training.batch_size


class PerRowTokenizing(torch.utils.data.Dataset):
    """Tokenizes a row when it is asked for."""

    def __init__(self, lines: list[str], tokenizer) -> None:
        self.lines, self.tokenizer = lines, tokenizer

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        text = "+" + self.lines[index].replace("|", "+") + "+"
        row = self.tokenizer(text, padding="max_length", max_length=16, return_tensors="pt", padding_side="right")
        return {"input_ids": row.input_ids[0], "attention_mask": row.attention_mask[0]}


def plain_steps(lines: list[str], tokenizer, batch_size: int, device: torch.device):
    """Take the plain recipe's steps; yield the problems of each."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=16,
        n_embd=256,
        n_layer=8,
        n_head=4,
        bos_token_id=None,
        eos_token_id=tokenizer.delimiter_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = GPT2LMHeadModel(config).train().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-4)
    loader = torch.utils.data.DataLoader(
        PerRowTokenizing(lines, tokenizer), batch_size=batch_size, shuffle=True, drop_last=True
    )
    for batch in itertools.chain.from_iterable(itertools.repeat(loader)):
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        yield len(labels)


if __name__ == "__main__":
    main()
