"""A certificate of all pairs, checked by decoding some of them: the model is asked as anybody asks it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simple_llm.arithmetic import BY_NAME
from simple_llm.arithmetic.digits import to_integers
from simple_llm.arithmetic.operands import Operands
from simple_llm.data.sampling import Sampler
from simple_llm.errors import ArtefactError, GateError, UsageError
from simple_llm.evaluation.certificates import AllPairs, CountedPairs
from simple_llm.evaluation.held_out import decoded_right
from simple_llm.evaluation.reports import read_certificate_of_pairs
from simple_llm.files.names import CERTIFICATE
from simple_llm.model.decoding import Decoder
from simple_llm.model.folder import LoadedModel

CHECKED_AT_A_TIME = 2**16
_MOST_SPREADS = 6  # that two shares of wrong pairs may lie apart


@dataclass(frozen=True)
class Check:
    """What was found of some random pairs.

    Attributes:
        contradictions: problems of which the certificate says otherwise, where it names all that are wrong.
    """

    num_pairs: int
    num_wrong: int
    contradictions: list[str]


def read_certificate_to_check(folder: Path, loaded: LoadedModel) -> AllPairs:
    """Read a model's certificate.

    Raises:
        UsageError: the model works as on paper, where no certificate is of pairs.
        GateError: it left out some pairs.
        ArtefactError: there is none of this model, or it is of operands that the model does not know.
    """
    if loaded.vocabulary.work_ids:
        raise UsageError("--check-certificate decodes pairs; work on paper is checked by --all-lengths, and verify.py")
    certificate, numbers = read_certificate_of_pairs(folder, loaded.sha256), loaded.data.numbers
    minimum, maximum = certificate.range
    num_pairs = len(loaded.operations) * (maximum - minimum + 1) ** 2
    if not certificate.checked == certificate.expected == num_pairs:
        raise GateError(f"{folder / CERTIFICATE} has not checked every pair of {minimum} to {maximum}")
    if minimum < numbers.min or maximum > numbers.max:
        raise ArtefactError(f"{folder / CERTIFICATE} is of other operands than {numbers.min} to {numbers.max}")
    return certificate


def check_pairs(
    loaded: LoadedModel, certificate: AllPairs, num_pairs: int, seed: int, on_batch: Callable[[int], object]
) -> Check:
    """Decode random pairs of a certificate's range, of each operation as many, and compare what is wrong with what it
    says is wrong."""
    operands, decoder = Operands(*certificate.range, loaded.data.numbers.base), Decoder.of(loaded.model)
    share = -(-num_pairs // len(certificate.of_each))
    checks = [
        _check(loaded, decoder, Sampler(operands, BY_NAME[name]), counted, share, seed, on_batch)
        for name, counted in certificate.of_each.items()
    ]
    return Check(
        sum(one.num_pairs for one in checks),
        sum(one.num_wrong for one in checks),
        [problem for one in checks for problem in one.contradictions],
    )


def _check(
    loaded: LoadedModel,
    decoder: Decoder,
    sampler: Sampler,
    counted: AllPairs | CountedPairs,
    num_pairs: int,
    seed: int,
    on_batch: Callable[[int], object],
) -> Check:
    """The same of one operation."""
    known, rng = set(counted.failures), np.random.default_rng(seed)
    num_wrong, contradictions = 0, []
    for first in range(0, num_pairs, CHECKED_AT_A_TIME):
        problems = sampler.uniform(rng, min(CHECKED_AT_A_TIME, num_pairs - first))
        is_right = decoded_right(decoder, problems, loaded)
        num_wrong += int((~is_right).sum())
        if counted.wrong <= len(known):  # all are written down
            pairs = zip(*(to_integers(digits, problems.base) for digits in (problems.x, problems.y)), strict=True)
            contradictions += [
                sampler.operation.write(*pair)
                for pair, right in zip(pairs, is_right, strict=True)
                if right == (pair in known)
            ]
        on_batch(len(problems))
    return Check(num_pairs, num_wrong, contradictions)


def refuse_contradictions(check: Check, certificate: AllPairs) -> None:
    """Refuse a certificate that says otherwise of a pair, or of how many are wrong.

    Raises:
        GateError: it does.
    """
    if check.contradictions:
        first, count = check.contradictions[0], len(check.contradictions)
        raise GateError(f"the certificate says otherwise of {count:,} pairs, first of {first}")
    share, expected_share = check.num_wrong / check.num_pairs, certificate.wrong / certificate.expected
    spread = (expected_share * (1 - expected_share) / check.num_pairs) ** 0.5
    if abs(share - expected_share) > _MOST_SPREADS * spread:
        raise GateError(f"{share:.2e} of the pairs are wrong here, {expected_share:.2e} in the certificate")
