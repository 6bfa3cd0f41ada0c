"""The certificate of a model of every length: why the contexts that were run are enough, and how much rounding does."""

import copy

import numpy as np
import torch

from simple_llm.batches import prompt_tokens, Vocabulary
from simple_llm.decoding import Decoder, SURE
from simple_llm.engine import Engine
from simple_llm.evaluation.lengths import problems_of_length
from simple_llm.files.manifest import versions
from simple_llm.model_folder import LoadedModel, vocabulary_of
from simple_llm.modeling_simple_llm import SimpleLLMConfig, SimpleLLMForCausalLM

Rounding = dict[str, dict[int, float]]  # {"float32": {10: 1e-6, 100: ...}, "bfloat16": ...}: of so many digits, logits

ARGUMENT = """\
1. What is said at a token depends on the tokens it attends to, on their rows of the position table, and on nothing
   else: the model has one block, in which keys and values are made of a token and its row alone.
2. A token attends to the delimiters before it and to the digits before it whose places lie from {left} below to {right}
   above its own. All else is masked: its weight in the softmax is exactly 0, so its presence and its value change
   nothing. The order of what is attended to changes nothing either, but the rounding of a sum.
3. While a sum is being said there are three delimiters before it, always.
4. The rows of the position table come again every {period} places. So two tokens that see the same digits at the same
   distances, at places that leave the same rest when divided by {period}, say the same.
5. Of x, y and the sum, the places in view either hold digits or the number has ended. The digits of the sum in view
   follow from those of x and y in view and from one carry from below, which is 0 or 1.
6. All of these combinations are listed, for all rests and for the first places, where the view is cut off by the
   beginning of the numbers: {expected:,} contexts. In {num_right:,} of them the right token has the largest logit; the
   smallest lead is {margin:.3f}.
7. Greedy decoding says the token with the largest logit. By induction over the digits, if every context is right,
   every sum of any two numbers is: the tokens said so far are right, so the context is one of those listed.
8. The leads were computed in float32. Against float64, that moved a logit by at most {float32:.2g} in sums of up to
   {longest:,} digits: no sum inside the model grows with the length. A digit could change only where the right token
   leads by less than twice as much. bfloat16, in which many sums are decoded at once where it is fast, moved one by at
   most {bfloat16:.2g}; it decides where a token leads by {sure:g}, so it could say another digit only if that were
   half of {sure:g} and the smallest lead together.
"""


def make_length_certificate(loaded: LoadedModel, counted: dict[str, object]) -> tuple[dict[str, object], float]:
    """What certificate.json holds of the contexts that `prove_all_lengths` counted.

    Returns:
        it, and how far bfloat16 moves a logit.
    """
    config = loaded.model.config
    rounding = rounding_at_lengths(loaded.model, vocabulary_of(loaded.tokenizer))
    certificate = {
        "kind": "all lengths",
        **counted,
        **loaded.hashes,
        "base": loaded.data.numbers.base,
        "attention_window": config.attention_window,
        "position_period": config.position_period,
        "rounding": {
            f"{dtype}, {num_digits} digits": value
            for dtype, differences in rounding.items()
            for num_digits, value in differences.items()
        },
        "argument": argument(config, counted, rounding).splitlines(),
        "dtype": "float32",
        "device": loaded.model.device.type,
        "versions": versions(),
        "threads": torch.get_num_threads(),
    }
    return certificate, max(rounding["bfloat16"].values())


def rounding_at_lengths(
    model: SimpleLLMForCausalLM, vocabulary: Vocabulary, lengths: tuple[int, ...] = (10, 100, 1000)
) -> Rounding:
    """Largest difference of a logit from float64, on the CPU, while a random sum of so many digits is decoded.

    Returns:
        for float32 and for bfloat16, and each number of digits.
    """
    dtypes = (torch.float32, torch.bfloat16)
    exact = Decoder(Engine(copy.deepcopy(model).to("cpu"), torch.float64))
    others = [Decoder(Engine(model, dtype)) for dtype in dtypes]
    differences: Rounding = {str(dtype).removeprefix("torch."): {} for dtype in dtypes}
    for num_digits in lengths:
        rng, base = np.random.default_rng(num_digits), len(vocabulary.digit_ids)
        prompts = prompt_tokens(problems_of_length(rng, base, num_digits, 1, "carries"), vocabulary)
        right = exact.decode(prompts, num_digits + 2, keep_logits=True).logits
        for of_dtype, decoder in zip(differences.values(), others, strict=True):
            logits = decoder.decode(prompts, num_digits + 2, keep_logits=True).logits
            of_dtype[num_digits] = float((logits.cpu().double() - right.double()).abs().max())
    return differences


def argument(config: SimpleLLMConfig, counted: dict[str, object], rounding: Rounding) -> str:
    """Say in words why the contexts cover every problem of every length, and on what that rests."""
    return ARGUMENT.format(
        **config.attention_window,
        period=config.position_period,
        expected=counted["expected"],
        num_right=counted["checked"] - counted["wrong"],
        margin=counted["min_logit_margin"],
        longest=max(rounding["float32"]),
        sure=SURE,
        **{dtype: max(differences.values()) for dtype, differences in rounding.items()},
    )
