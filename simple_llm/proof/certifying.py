"""Makes certificates of all pairs."""

from pathlib import Path

import torch

from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.operands import Operands
from simple_llm.arithmetic.operation import Operation
from simple_llm.data.problems import from_integers
from simple_llm.data.sampling import Sampler
from simple_llm.errors import UsageError
from simple_llm.evaluation.certificates import AllPairs, CountedPairs
from simple_llm.files.manifest import versions
from simple_llm.model.decoding import Decoder
from simple_llm.model.folder import LoadedModel
from simple_llm.proof.all_pairs import prove_all_pairs, Prover, refuse_hours, refuse_what_cannot_be_counted, Watch
from simple_llm.proof.pair_table import can_be_tabled
from simple_llm.proof.rounding import refuse_large_rounding, rounding, trusted_readers
from simple_llm.proof.shards import MAX_FAILURES, PROOF_FORMAT


def certify_pairs(
    loaded: LoadedModel,
    operands: Operands,
    folder: Path,
    watch: Watch,
    by_table: bool | None = None,
    may_take_hours: bool = False,
    **facts: object,
) -> AllPairs | None:
    """Prove every ordered pair of a range, for each operation of the model, by the arithmetic that may decide it.

    Args:
        folder: of the shards.
        watch: see `prove_all_pairs`.
        by_table: of the pairs that look alike to a token, read one; None where the model allows that.
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
    is_tabled = can_be_tabled(loaded.model.config) and loaded.operations == [ADDITION]
    by_table = is_tabled if by_table is None else by_table
    if by_table and not is_tabled:
        raise UsageError(
            "--table is for sums by a model of n_layer = 1, tokens_per_step = 1 and an attention_window of right >= 1"
        )
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
