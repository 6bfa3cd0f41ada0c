"""Makes certificates: of all pairs, or of all lengths and then why the contexts that were run are enough."""

from collections.abc import Callable
from pathlib import Path

import torch

from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.operands import Operands
from simple_llm.arithmetic.operation import Operation
from simple_llm.data.problems import from_integers
from simple_llm.data.sampling import Sampler
from simple_llm.errors import GateError, UsageError
from simple_llm.evaluation.certificates import AllLengths, AllPairs, CountedPairs
from simple_llm.files.manifest import versions
from simple_llm.model.decoding import Decoder, SURE
from simple_llm.model.engine import Engine
from simple_llm.model.folder import LoadedModel
from simple_llm.model.modeling_simple_llm import SimpleLLMConfig
from simple_llm.proof.all_lengths import prove_all_lengths
from simple_llm.proof.all_pairs import prove_all_pairs, Prover, refuse_hours, refuse_what_cannot_be_counted, Watch
from simple_llm.proof.pair_table import can_be_tabled
from simple_llm.proof.rounding import (
    refuse_large_rounding,
    Rounding,
    rounding,
    rounding_at_lengths,
    trusted_readers,
)
from simple_llm.proof.shards import MAX_FAILURES, PROOF_FORMAT

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


# ---- All pairs ------------------------------------------------------------------------------------


def certify_pairs(
    loaded: LoadedModel,
    operands: Operands,
    folder: Path,
    watch: Watch,
    by_table: bool = False,
    may_take_hours: bool = False,
    **facts: object,
) -> AllPairs | None:
    """Prove every ordered pair of a range, for each operation of the model, by the arithmetic that may decide it.

    Args:
        folder: of the shards.
        watch: see `prove_all_pairs`.
        facts: of its making, for the certificate.

    Returns:
        the certificate; None in all processes but the first.

    Raises:
        UsageError: this cannot be done, or takes hours.
        GateError: all is right as counted, and rounding could upset it.
    """
    decoder, samplers = Decoder.of(loaded.model), [Sampler(operands, one) for one in loaded.operations]
    for sampler in samplers:
        refuse_what_cannot_be_counted(loaded.vocabulary, sampler)
    if by_table and not can_be_tabled(loaded.model.config):
        raise UsageError("--table needs model.n_layer = 1, tokens_per_step = 1 and an attention_window of right >= 1")
    if not may_take_hours and not by_table:
        refuse_hours(decoder, loaded.vocabulary, samplers)
    made = [_certify(loaded, decoder, sampler, folder, watch, by_table, facts) for sampler in samplers]
    if made[0] is None:
        return None
    if loaded.operations == [ADDITION]:
        return made[0]
    return joined_certificate(dict(zip(loaded.operations, made, strict=True)))


def _certify(
    loaded: LoadedModel,
    decoder: Decoder,
    sampler: Sampler,
    folder: Path,
    watch: Watch,
    by_table: bool,
    facts: dict[str, object],
) -> AllPairs | None:
    """Prove every ordered pair for one operation."""
    readers = decoder.readers[-1:] if by_table else trusted_readers(loaded, decoder, sampler)
    prover = Prover(readers, loaded.vocabulary, sampler.operands, sampler.operation, by_table=by_table)
    subject = proof_subject(loaded, Decoder(*readers).dtype_names, sampler, by_table)
    counted = prove_all_pairs(prover, folder, subject, watch)
    if counted is None:
        return None
    rows = {"rows_in_table": prover.pairs.num_rows} if by_table else {}
    certificate = make_certificate(loaded, sampler, counted, subject, **rows, **facts)
    if not certificate.wrong:
        moved = certificate.rounding["bfloat16"]
        refuse_large_rounding(moved, certificate.min_logit_margin, bfloat16_decided=len(readers) > 1)
    return certificate


def proof_subject(loaded: LoadedModel, dtype: str, sampler: Sampler, by_table: bool = False) -> dict[str, object]:
    """What is proved, by which arithmetic: shards of another subject do not count."""
    return {
        "format": PROOF_FORMAT,
        "versions": versions(),
        **loaded.hashes,
        "range": [sampler.operands.minimum, sampler.operands.maximum],
        "dtype": dtype,
        "device": loaded.model.device.type,
        **({"method": "table"} if by_table else {}),
        **({} if sampler.operation is ADDITION else {"operation": sampler.operation.name}),
    }


def make_certificate(
    loaded: LoadedModel, sampler: Sampler, counted: dict[str, object], subject: dict[str, object], **facts: object
) -> AllPairs:
    """Certify what `prove_all_pairs` counted of a subject, and say how much rounding moves the least sure pairs.

    Args:
        facts: of its making.
    """
    pairs, operands = [(x, y) for _, x, y in counted["least_sure"]], sampler.operands
    least_sure = from_integers(pairs, operands.base, operands.width, sampler.operation)
    return AllPairs(
        kind="all pairs",
        **counted,
        **{key: value for key, value in subject.items() if key != "operation"},
        base=operands.base,
        tokens_per_step=loaded.model.config.tokens_per_step,
        rounding=rounding(loaded.model, least_sure, loaded.vocabulary),
        threads=torch.get_num_threads(),
        **facts,
    )


def joined_certificate(made: dict[Operation, AllPairs]) -> AllPairs:
    """One certificate of several operations: totals, and what was counted of each."""
    first = next(iter(made.values()))
    worst = min(made, key=lambda one: made[one].min_logit_margin)
    failures = [one.write(*pair) for one, of_one in made.items() for pair in of_one.failures]
    totals = {name: sum(getattr(one, name) for one in made.values()) for name in _ADDED_UP}
    in_common = {name: value for name, value in first if name in first.model_fields_set - {"least_sure", "shards"}}
    return AllPairs(
        **in_common
        | totals
        | {
            "failures": failures[:MAX_FAILURES],
            "min_logit_margin": made[worst].min_logit_margin,
            "min_logit_margin_at": worst.write(*made[worst].min_logit_margin_at),
            "operations": {
                one.name: CountedPairs(**{name: getattr(of_one, name) for name in CountedPairs.model_fields})
                for one, of_one in made.items()
            },
            "rounding": {key: max(one.rounding[key] for one in made.values()) for key in first.rounding},
        }
    )


_ADDED_UP = ("expected", "checked", "prompts", "wrong", "decided_again", "seconds")


# ---- All lengths ----------------------------------------------------------------------------------


def certify_lengths(
    loaded: LoadedModel, on_contexts: Callable[[int], object], **facts: object
) -> tuple[AllLengths, float]:
    """Prove every length, in float32.

    Args:
        on_contexts: called with the number of contexts just run.
        facts: of its making, for the certificate.

    Returns:
        the certificate, and how far bfloat16 moves a logit.

    Raises:
        UsageError: the contexts of this model cannot be listed.
        GateError: they were not listed once each, or all is right as counted, and rounding could upset it.
    """
    reader, vocabulary = Engine(loaded.model, torch.float32), loaded.vocabulary
    counted = prove_all_lengths(reader, vocabulary, on_contexts)
    if counted["checked"] != counted["expected"]:
        raise GateError(f"{counted['checked']:,} contexts were listed, and there are {counted['expected']:,}")
    certificate, moved = make_length_certificate(loaded, counted, **facts)
    if not certificate.wrong:
        refuse_large_rounding(moved, certificate.min_logit_margin, bfloat16_decided=False)
    return certificate, moved


def make_length_certificate(
    loaded: LoadedModel, counted: dict[str, object], **facts: object
) -> tuple[AllLengths, float]:
    """Certify the contexts that `prove_all_lengths` counted.

    Args:
        facts: of its making.

    Returns:
        it, and how far bfloat16 moves a logit.
    """
    config = loaded.model.config
    rounding = rounding_at_lengths(loaded.model, loaded.vocabulary)
    certificate = AllLengths(
        kind="all lengths",
        **counted,
        **loaded.hashes,
        base=loaded.data.numbers.base,
        attention_window=config.attention_window,
        position_period=config.position_period,
        rounding={
            f"{dtype}, {num_digits} digits": value
            for dtype, differences in rounding.items()
            for num_digits, value in differences.items()
        },
        argument=argument(config, counted, rounding).splitlines(),
        dtype="float32",
        device=loaded.model.device.type,
        versions=versions(),
        threads=torch.get_num_threads(),
        **facts,
    )
    return certificate, max(rounding["bfloat16"].values())


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
