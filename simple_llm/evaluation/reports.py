"""Reports beside a model: what was measured of it, after it was finished.

They are not in the manifest. Each names the weights it is about by `model_sha256`, and a certificate the config by
`config_sha256`; what is about others is not shown, and not uploaded.
"""

import logging
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simple_llm.arithmetic import BY_NAME
from simple_llm.errors import ArtefactError
from simple_llm.evaluation.certificates import AllPairs, Count, CountOfSome, read_as_certificate
from simple_llm.files.manifest import sha256_of
from simple_llm.files.names import ACCURACY, ATTENTION, ATTENTION_PICTURES, CERTIFICATE, CONFIG, EVALUATION, LENGTHS
from simple_llm.files.reading import read_json

MOST_BYTES = 2**28  # of a report, which may list a million mistakes

_Bounds = Annotated[list[Count], Field(min_length=2, max_length=2)]
_log = logging.getLogger(__name__)


class _Shown(BaseModel):
    """What a report has to say to be shown; it may say more."""

    model_config = ConfigDict(strict=True)


class _Commutes(_Shown):
    agree: Count
    total: Count


class _Run(_Shown):
    total: Count


class _Of(_Shown):
    correct: Count
    total: CountOfSome
    error_rate_upper_95: float


class _Evaluation(_Shown):
    correct: Count
    total: CountOfSome
    error_rate_upper_95: float
    min_logit_margin: float
    range: _Bounds
    base: int
    commutes: _Commutes
    operations: dict[Literal[*BY_NAME], _Of] = {}
    runs: Annotated[list[_Run], Field(min_length=1)]


class _LengthRow(_Shown):
    num_digits: Count
    kind: str
    correct: Count
    total: Count
    error_rate_upper_95: float


class _Lengths(_Shown):
    trained_digits: Count
    base: int
    lengths: list[_LengthRow]


_READERS = {
    EVALUATION: _Evaluation.model_validate,
    CERTIFICATE: read_as_certificate,
    LENGTHS: _Lengths.model_validate,
    ATTENTION: _Shown.model_validate,
}


def is_of_config(folder: Path, report: dict) -> bool:
    """Whether the config that a report names, if it names one, is that of the folder: it decides what weights do."""
    claimed = report.get("config_sha256")
    return claimed is None or claimed == sha256_of(folder / CONFIG)


def read_reports(folder: Path, model_sha256: str) -> dict[str, dict]:
    """Read the JSON reports that are about these weights: {"evaluation.json": {...}}.

    What is damaged, or cannot be shown, is left out with a warning.
    """
    found = {}
    for name, read in _READERS.items():
        try:
            report = read_json(folder, name, MOST_BYTES) if os.path.lexists(folder / name) else {}
            if report.get("model_sha256") == model_sha256 and is_of_config(folder, report):
                read(report)
                found[name] = report
        except ArtefactError as error:
            _log.warning("%s; it is left out", error)
        except ValidationError as error:
            _log.warning("%s is left out: %s", folder / name, _first_of(error))
    return found


def read_certificate_of_pairs(folder: Path, model_sha256: str) -> AllPairs:
    """Read the certificate of a model that is to be of all pairs.

    Raises:
        ArtefactError: there is none, or it is damaged, or of another model, or of all lengths.
    """
    if not (folder / CERTIFICATE).exists():
        raise ArtefactError(f"{folder} has no certificate; run `python3 evaluate.py --exhaustive` first")
    document = read_json(folder, CERTIFICATE, MOST_BYTES)
    try:
        certificate = read_as_certificate(document)
    except ValidationError as error:
        raise ArtefactError(
            f"{folder / CERTIFICATE} is damaged ({_first_of(error)}); run `python3 evaluate.py --exhaustive`"
        ) from error
    if not isinstance(certificate, AllPairs):
        raise ArtefactError(f"{folder / CERTIFICATE} is of {certificate.kind}, not of pairs")
    if certificate.model_sha256 != model_sha256 or not is_of_config(folder, document):
        raise ArtefactError(f"{folder / CERTIFICATE} is of another model; run `python3 evaluate.py --exhaustive`")
    return certificate


def _first_of(error: ValidationError) -> str:
    """The first of what is wrong, in one line."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}".removeprefix(": ")


def report_files(folder: Path, model_sha256: str) -> list[str]:
    """Names of the reports in a folder that are about these weights, and of the pictures drawn from them."""
    current = read_reports(folder, model_sha256)
    drawn_from = {EVALUATION: (ACCURACY,), ATTENTION: (ATTENTION_PICTURES,)}
    patterns = [pattern for name in current for pattern in (name, *drawn_from.get(name, ()))]
    return sorted(path.name for pattern in patterns for path in folder.glob(pattern))
