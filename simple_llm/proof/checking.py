"""A certificate of all pairs, checked by decoding some of them: the model is asked as anybody asks it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simple_llm.arithmetic.digits import to_integers
from simple_llm.data.sampling import Sampler
from simple_llm.errors import ArtefactError, GateError
from simple_llm.evaluation.certificates import AllPairs
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
        contradictions: pairs of which the certificate says otherwise, where it names all that are wrong.
    """

    num_pairs: int
    num_wrong: int
    contradictions: list[tuple[int, int]]


def read_certificate_to_check(folder: Path, loaded: LoadedModel) -> AllPairs:
    """Read a model's certificate.

    Raises:
        GateError: it left out some pairs.
        ArtefactError: there is none of this model, or it is of operands that the model does not know.
    """
    certificate, numbers = read_certificate_of_pairs(folder, loaded.sha256), loaded.data.numbers
    minimum, maximum = certificate.range
    if not certificate.checked == certificate.expected == (maximum - minimum + 1) ** 2:
        raise GateError(f"{folder / CERTIFICATE} has not checked every pair of {minimum} to {maximum}")
    if minimum < numbers.min or maximum > numbers.max:
        raise ArtefactError(f"{folder / CERTIFICATE} is of other operands than {numbers.min} to {numbers.max}")
    return certificate


def check_pairs(
    loaded: LoadedModel, certificate: AllPairs, num_pairs: int, seed: int, on_batch: Callable[[int], object]
) -> Check:
    """Decode random pairs of a certificate's range and compare what is wrong with what it says is wrong."""
    known, sampler = set(certificate.failures), Sampler(*certificate.range, loaded.data.numbers.base)
    rng, decoder = np.random.default_rng(seed), Decoder.of(loaded.model)
    num_wrong, contradictions = 0, []
    for first in range(0, num_pairs, CHECKED_AT_A_TIME):
        problems = sampler.uniform(rng, min(CHECKED_AT_A_TIME, num_pairs - first))
        is_right = decoded_right(decoder, problems, loaded)
        num_wrong += int((~is_right).sum())
        if certificate.wrong <= len(known):  # all are written down
            pairs = zip(*(to_integers(digits, sampler.base) for digits in (problems.x, problems.y)), strict=True)
            contradictions += [pair for pair, right in zip(pairs, is_right, strict=True) if right == (pair in known)]
        on_batch(len(problems))
    return Check(num_pairs, num_wrong, contradictions)


def refuse_contradictions(check: Check, certificate: AllPairs) -> None:
    """Refuse a certificate that says otherwise of a pair, or of how many are wrong.

    Raises:
        GateError: it does.
    """
    if check.contradictions:
        x, y = check.contradictions[0]
        raise GateError(f"the certificate says otherwise of {len(check.contradictions):,} pairs, first of {x}+{y}")
    share, expected_share = check.num_wrong / check.num_pairs, certificate.wrong / certificate.expected
    spread = (expected_share * (1 - expected_share) / check.num_pairs) ** 0.5
    if abs(share - expected_share) > _MOST_SPREADS * spread:
        raise GateError(f"{share:.2e} of the pairs are wrong here, {expected_share:.2e} in the certificate")
