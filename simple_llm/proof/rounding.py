"""How far rounding moves a logit, against float64, and what of a proof that leaves."""

import copy

import numpy as np
import torch

from simple_llm.data.problems import Problems
from simple_llm.data.sampling import Sampler
from simple_llm.errors import GateError
from simple_llm.evaluation.lengths import problems_of_length
from simple_llm.evaluation.margins import row_logits
from simple_llm.model.architecture import Readable
from simple_llm.model.decoding import Decoder, Reader, SURE
from simple_llm.model.engine import Engine
from simple_llm.model.folder import LoadedModel
from simple_llm.model.places_simple_llm import IGNORE_INDEX
from simple_llm.model.tokens import prompt_tokens, Vocabulary

_NUM_ROUNDED = 1000  # problems on which it is measured how far bfloat16 moves a logit

Rounding = dict[str, dict[int, float]]  # {"float32": {10: 1e-6, 100: ...}, "bfloat16": ...}: of so many digits, logits


def rounding(model: Readable, problems: Problems, vocabulary: Vocabulary) -> dict[str, float]:
    """Largest difference of a logit of an answer from what float64 gives, for float32 and for bfloat16.

    Against the margins it says whether another machine, adding up in another order, could say another digit. The two
    are measured where the model is, float64 on the CPU. What comes out as no number decides nothing, and does not
    count: bfloat16 has that where a score is too large for it, and such an answer is decided again, in float32.
    """
    wide = Engine(copy.deepcopy(model).to("cpu"), torch.float64)
    exact = [logits for logits, _ in row_logits(wide, problems, vocabulary)]
    largest = {}
    for dtype in (torch.float32, torch.bfloat16):
        differences = [
            (logits.cpu().double() - right).abs()[targets.cpu() != IGNORE_INDEX].nan_to_num(0.0).max().item()
            for (logits, targets), right in zip(
                row_logits(Engine(model, dtype), problems, vocabulary), exact, strict=True
            )
        ]
        largest[str(dtype).removeprefix("torch.")] = max(differences)
    return largest


def rounding_at_lengths(
    model: Readable, vocabulary: Vocabulary, lengths: tuple[int, ...] = (10, 100, 1000)
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


def trusted_readers(loaded: LoadedModel, decoder: Decoder, sampler: Sampler) -> tuple[Reader, ...]:
    """The readers that may decide pairs: bfloat16 only where it moves no two logits of a sample by SURE."""
    if len(decoder.readers) == 1:
        return decoder.readers
    sample = sampler.uniform(np.random.default_rng(0), _NUM_ROUNDED)
    moved = 2 * rounding(loaded.model, sample, loaded.vocabulary)["bfloat16"]
    return decoder.readers if moved < SURE else decoder.readers[-1:]


def refuse_large_rounding(moved: float, margin: float, bfloat16_decided: bool) -> None:
    """Refuse a proof of which the other arithmetic might say otherwise.

    Args:
        moved: how far bfloat16 moves a logit, of two that are compared in either direction.
        margin: the smallest one.
        bfloat16_decided: where it found a margin of SURE or more; else it is what decides many sums at once later, and
            says a wrong digit only if that comes to lead by SURE.

    Raises:
        GateError: a digit could be another one.
    """
    limit = max(SURE, margin) if bfloat16_decided else SURE + margin
    if not 2 * moved < limit:
        raise GateError(
            f"all is right as counted, but bfloat16 moves two logits against each other by up to {2 * moved:.2g}, and "
            f"from {limit:.2g} on it can say another digit than float32: nothing is proved"
        )


def refuse_rounding_of_float32(moved: float, margin: float) -> None:
    """Refuse a proof by float32 alone in which sums added up in another order might say otherwise.

    Args:
        moved: how far float32 moves a logit from float64.
        margin: the smallest one.

    Raises:
        GateError: a token could be another one.
    """
    if not 2 * moved < margin:
        raise GateError(
            f"all is right as counted, but float32 moves two logits against each other by up to {2 * moved:.2g}, and "
            f"the smallest margin is {margin:.2g}: nothing is proved"
        )
