"""Makes certificates of every length, and says in them why the contexts that were run are enough.

Two kinds of model have a finite list of contexts: those with an attention window, which say a sum digit by digit, and
those with a scratchpad of columns, which write their work. What differs is here; how contexts are listed and run is in
all_lengths.py and all_contexts.py.
"""

from collections.abc import Callable

import torch

from simple_llm.errors import GateError
from simple_llm.evaluation.certificates import AllLengths
from simple_llm.files.manifest import versions
from simple_llm.model.decoding import SURE
from simple_llm.model.engine import Engine
from simple_llm.model.folder import LoadedModel
from simple_llm.proof import all_lengths
from simple_llm.proof.all_contexts import count_contexts, prove_all_contexts, refuse_two_blocks
from simple_llm.proof.rounding import refuse_large_rounding, refuse_rounding_of_float32, rounding_at_lengths

WINDOW_ARGUMENT = """\
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

COLUMNS_ARGUMENT = """\
1. What is said at a token depends on the token, on those it sees, on the kind of each, and on nothing else: the model
   has one block, in which keys and values are made of a token and its kind alone; there are six kinds, and no
   positions beside them.
2. A token of the work sees the operator and at most one other in each of five cells: of its row and column the head,
   the operand, the digit above and the carry; and the highest digit of what is left, where a digit of a quotient is
   guessed. All else is masked: its weight in the softmax is exactly 0. The order of what is seen changes nothing but
   the rounding of a sum.
3. So it is enough to list what can meet in these cells. In a column stand digits of the question, which may be any,
   digits of the row above, and a carry. If the carries into a column are of a certain set, so are those into the next:
   0 and 1 in sums and differences, 0 to the head in products and quotients. The list has all digits with all of these
   carries; only at the highest digit of a row of a quotient not all can meet, since what is left is below the divisor.
4. How long the numbers are, how many rows there are, and how many numbers are in a sum, no cell shows: of each row the
   one above is seen and none before.
5. These are {expected:,} contexts: {each}.
   They were counted by a formula, too. In {num_right:,} of them the token that has to follow has the largest logit of
   all {vocabulary} tokens; the smallest lead is {margin:.3f}.
6. Greedy decoding says the token with the largest logit. By induction over the tokens, if every context is right, all
   work is: what was written so far is right, so what the next token sees is in the list. The work ends, and the result
   is read off it by a rule that never looks at the weights.
7. Given to the model are the mask, which follows from the signs in the text and from counting, and in training the
   work itself. Learned is every token of the work: each digit, carry and guess, where a row ends, and when to stop.
8. The leads were computed in float32. Over all of these contexts that moved a logit by at most {float32:.2g} against
   float64. A token could change only where the right one leads by less than twice as much.
"""


def num_contexts(loaded: LoadedModel) -> int:
    """Count the contexts of a model.

    Raises:
        UsageError: they cannot be listed.
    """
    if not _has_columns(loaded):
        return all_lengths.num_contexts(loaded.model.config)
    refuse_two_blocks(loaded.model.config)
    return sum(count_contexts(one.symbol, len(loaded.model.config.digit_token_ids)) for one in loaded.operations)


def _has_columns(loaded: LoadedModel) -> bool:
    return loaded.model.config.scratchpad == "columns"


def certify_lengths(loaded: LoadedModel, on_contexts: Callable[[int], object], **facts: object) -> AllLengths:
    """Prove every length, in float32.

    Args:
        on_contexts: called with the number of contexts just run.
        facts: of its making, for the certificate.

    Raises:
        UsageError: the contexts of this model cannot be listed.
        GateError: they were not listed once each, or all is right as counted, and rounding could upset it.
    """
    if _has_columns(loaded):
        counted = prove_all_contexts(loaded.model, loaded.operations, on_contexts)
    else:
        reader = Engine(loaded.model, torch.float32)
        counted = all_lengths.prove_all_lengths(reader, loaded.vocabulary, on_contexts)
    if counted["checked"] != counted["expected"]:
        raise GateError(f"{counted['checked']:,} contexts were listed, and there are {counted['expected']:,}")
    certificate = make_length_certificate(loaded, counted, **facts)
    if certificate.wrong:
        return certificate
    if _has_columns(loaded):
        refuse_rounding_of_float32(certificate.moved["float32"], certificate.min_logit_margin)
    else:
        refuse_large_rounding(certificate.moved["bfloat16"], certificate.min_logit_margin, bfloat16_decided=False)
    return certificate


def make_length_certificate(loaded: LoadedModel, counted: dict[str, object], **facts: object) -> AllLengths:
    """Certify the contexts that were counted, and say why they are enough.

    Args:
        counted: what `prove_all_lengths` or `prove_all_contexts` gives.
        facts: of its making.
    """
    of_kind = _of_columns(loaded, counted) if _has_columns(loaded) else _of_window(loaded, counted)
    return AllLengths(
        kind="all lengths",
        **counted,
        **loaded.hashes,
        base=loaded.data.numbers.base,
        **of_kind,
        dtype="float32",
        device=loaded.model.device.type,
        versions=versions(),
        threads=torch.get_num_threads(),
        **facts,
    )


def _of_window(loaded: LoadedModel, counted: dict[str, object]) -> dict[str, object]:
    """What a certificate has of a model with a window alone, rounding measured."""
    config = loaded.model.config
    rounding = rounding_at_lengths(loaded.model, loaded.vocabulary)
    argument = WINDOW_ARGUMENT.format(
        **config.attention_window,
        **_counts(counted),
        period=config.position_period,
        longest=max(rounding["float32"]),
        sure=SURE,
        **{dtype: max(differences.values()) for dtype, differences in rounding.items()},
    )
    return {
        "attention_window": config.attention_window,
        "position_period": config.position_period,
        "rounding": {
            f"{dtype}, {num_digits} digits": value
            for dtype, differences in rounding.items()
            for num_digits, value in differences.items()
        },
        "argument": argument.splitlines(),
    }


def _of_columns(loaded: LoadedModel, counted: dict[str, object]) -> dict[str, object]:
    """What a certificate has of a model with a scratchpad alone."""
    each = (f"{counted['operations'][one.name]['expected']:,} of {one.noun}s" for one in loaded.operations)
    argument = COLUMNS_ARGUMENT.format(
        **_counts(counted), **counted["rounding"], each=", ".join(each), vocabulary=loaded.model.config.vocab_size
    )
    return {"scratchpad": loaded.model.config.scratchpad, "argument": argument.splitlines()}


def _counts(counted: dict[str, object]) -> dict[str, object]:
    """What both arguments name."""
    return {
        "expected": counted["expected"],
        "num_right": counted["checked"] - counted["wrong"],
        "margin": counted["min_logit_margin"],
    }
