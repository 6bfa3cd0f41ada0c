"""How many sums a second each way of decoding gets through.

    python3 -m benchmarks.decode [--rounds 3] [--seconds 2] [--models 6.3M small] [--plot PNG]
    python3 -m benchmarks.decode --results docs/decode.json --plot docs/images/decode.png       of an earlier run

    the reference way    one problem at a time, no cache, two tokens a step by reading the whole row again
    generate             transformers' model.generate(), one problem at a time and in batches, two tokens a step
    ours                 simple_llm.model.decoding with 1 and 2 tokens a step and the whole answer in one pass

The models have random weights, but never say the delimiter: every answer is five tokens, four digits and one more, as
those of most sums below 20,000 are in base 16. What bfloat16 is unsure of is not decided again here; of a trained model
that is one answer in hundreds. Ways are timed in turn; ratios are to the reference way of the same round.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.report import in_turn, print_rates
from simple_llm import command_line
from simple_llm.arithmetic import OPERATIONS
from simple_llm.config.settings import DataConfig, Model, TrainConfig
from simple_llm.data.sampling import Sampler
from simple_llm.evaluation.pictures import ACCENT, AMBER, QUIET, save_figure, WRONG
from simple_llm.machine import resolve_device, resolve_precision
from simple_llm.model.decoding import Decoder, FEW
from simple_llm.model.engine import Engine
from simple_llm.model.modeling_simple_llm import SimpleLLMConfig, SimpleLLMForCausalLM
from simple_llm.model.tokens import pad_left, prompt_tokens, Vocabulary
from simple_llm.training.learner import build_model
from tokenizer import train_tokenizer

MODELS = {"6.3M": Model(), "small": Model(n_layer=2, n_head=4, n_embd=64)}
BATCH_SIZES = (1, 10, 100, 1_000, 10_000)
NUM_TOKENS = 5  # of every answer


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--seconds", type=float, default=2.0, help="about what a way may take a round")
    made.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    made.add_argument("--results", type=command_line.path, metavar="JSON", help="of an earlier run; run nothing")
    made.add_argument("--plot", type=command_line.path, metavar="PNG", help="draw sums a second against the batch size")
    arguments = made.parse_args()
    device = resolve_device("auto")
    documents = json.loads(arguments.results.read_text("utf-8")) if arguments.results else {}
    for name in arguments.models if not arguments.results else ():
        size = MODELS[name]
        models = {k: make_model(size.model_copy(update={"tokens_per_step": k}), device) for k in (1, 2, "all")}
        print(f"\n{name}: {sum(weight.numel() for weight in models[1].parameters()):,} parameters on {device.type}")
        rates = in_turn(ways(models, arguments.seconds), arguments.rounds)
        documents[name] = print_rates(rates, "sums", threads=torch.get_num_threads(), device=device.type)
    if arguments.plot:
        draw(documents, arguments.plot)
    print(json.dumps(documents))


def make_model(size: Model, device: torch.device) -> SimpleLLMForCausalLM:
    """A model of random weights that never says the delimiter."""
    data, train = DataConfig(), TrainConfig(model=size)
    torch.manual_seed(0)
    model = build_model(data, train, train_tokenizer(iter([]), data, train)).eval().to(device)
    with torch.no_grad():
        model.transformer.wte.weight[model.config.eos_token_id] = 0.0  # its logit is 0, and some other one is above
    return model


def prompts_for(model: SimpleLLMForCausalLM, num_prompts: int, seed: int = 0) -> Tensor:
    """Prompts whose sums have four digits, (N, T)."""
    data = DataConfig()
    problems = Sampler.of(data.numbers).uniform(np.random.default_rng(seed), 4 * num_prompts + 100)
    problems = problems[problems.z_length == NUM_TOKENS - 1][:num_prompts]
    return prompt_tokens(problems, vocabulary_for(model.config))


def vocabulary_for(config: SimpleLLMConfig) -> Vocabulary:
    """How a model of `make_model`, which only adds, reads and writes."""
    return Vocabulary(
        tuple(config.digit_token_ids),
        config.eos_token_id,
        config.pad_token_id,
        operator_ids=(config.eos_token_id, *(None for _ in OPERATIONS[1:])),
        tokens_per_step=config.tokens_per_step,
    )


def ways(models: dict[int | str, SimpleLLMForCausalLM], seconds: float) -> dict[str, Callable[[], int]]:
    """Every way by name; each does some sums when called and returns how many."""
    alone = {
        "the reference way": lambda: repeat(lambda row: say_by_reading_again(models[2], row), models[2], 1, seconds)
    }
    generate = {
        f"generate, {size:,} at once": lambda size=size: repeat(
            lambda rows: say_by_generate(models[2], rows), models[2], size, seconds
        )
        for size in (1, 100, 1_000)
    }
    ours = {}
    for k, model in models.items():
        exact = Decoder(Engine(model, torch.float32))
        quick = Decoder(Engine(model, resolve_precision("auto", model.device)))
        for size in BATCH_SIZES:
            decoder = exact if size <= FEW else quick
            ours[f"ours, k = {k}, {size:,} at once"] = lambda decoder=decoder, model=model, size=size: repeat(
                lambda rows: decoder.decode(rows, NUM_TOKENS), model, size, seconds
            )
    return {**alone, **generate, **ours}


def repeat(answer: Callable[[Tensor], object], model: SimpleLLMForCausalLM, size: int, seconds: float) -> int:
    """Answer batches of new prompts for about so many seconds; return how many prompts that were."""
    batches = prompts_for(model, size * max(1, 256 // size)).split(size)
    started, num_done = time.perf_counter(), 0
    while num_done == 0 or time.perf_counter() - started < seconds:
        answer(batches[num_done // size % len(batches)])
        num_done += size
    return num_done


@torch.inference_mode()
def say_by_reading_again(model: SimpleLLMForCausalLM, prompt: Tensor) -> Tensor:
    """The reference way: two tokens a step, and for each step the whole row is read again."""
    row = prompt[prompt != model.config.pad_token_id][None].to(model.device)
    num_prompt_tokens = row.size(1)
    while row.size(1) < num_prompt_tokens + NUM_TOKENS:
        said = model(input_ids=row, use_cache=False).logits[:, -2:].argmax(-1)
        row = torch.cat([row, said], dim=1)
    return row


@torch.inference_mode()
def say_by_generate(model: SimpleLLMForCausalLM, prompts: Tensor) -> Tensor:
    """transformers' own loop over a left-padded batch, with its cache."""
    rows = pad_left(prompts, model.config.pad_token_id).to(model.device)
    mask = (rows != model.config.pad_token_id).long()
    return model.generate(rows, attention_mask=mask, max_new_tokens=NUM_TOKENS)


def draw(documents: dict[str, dict], path: Path) -> None:
    """Sums a second against the batch size, a panel a model: medians, with bars from slowest round to fastest."""
    figure = Figure(figsize=(4.6 * len(documents), 3.6), layout="constrained")
    panels = figure.subplots(1, len(documents), squeeze=False)[0]
    for panel, (name, document) in zip(panels, documents.items(), strict=True):
        panel.set(title=name, xlabel="problems at once", ylabel="sums a second", xscale="log", yscale="log")
        draw_rates(panel, document["rates"])
    save_figure(figure, path)


def draw_rates(panel: Axes, rates: dict[str, dict[str, float]]) -> None:
    """Draw a line for each number of tokens a step, which is named where it begins, and the reference way."""
    height = 0.0  # of the name below
    for k, color, beside in ((1, WRONG, 0.92), (2, AMBER, 1.0), ("all", ACCENT, 1.08)):
        of_size = {size: rates.get(f"ours, k = {k}, {size:,} at once") for size in BATCH_SIZES}
        sizes = [size * beside for size, rate in of_size.items() if rate]
        median, low, high = ([rate[of] for rate in of_size.values() if rate] for of in ("median", "min", "max"))
        panel.plot(sizes, median, marker="o", markersize=4, color=color)
        panel.vlines(sizes, low, high, color=color, alpha=0.35)
        height = max(median[0], 1.4 * height)
        panel.text(0.7, height, f"k = {k}", color=color, ha="right", va="center")
    reference = rates["the reference way"]["median"]
    panel.hlines(reference, 1, BATCH_SIZES[-1], color=QUIET, linestyle="--", linewidth=1)
    panel.text(BATCH_SIZES[-1], 1.1 * reference, "the reference way, one at a time", color=QUIET, ha="right")
    panel.set_xlim(0.1, 2 * BATCH_SIZES[-1])


if __name__ == "__main__":
    main()
