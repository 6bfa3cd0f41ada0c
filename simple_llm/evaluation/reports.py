"""Reports beside a model: what was measured of it, after it was finished.

They are not in the manifest. Each names the weights it is about by `model_sha256`, and a certificate the config by
`config_sha256`; what is about others is not shown, and not uploaded.
"""

import logging
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator, ValidationError

from simple_llm.errors import ArtefactError
from simple_llm.files.manifest import sha256_of
from simple_llm.files.names import ACCURACY, ATTENTION, ATTENTION_PICTURES, CERTIFICATE, CONFIG, EVALUATION, LENGTHS
from simple_llm.files.reading import read_json

MOST_BYTES = 2**28  # of a report, which may list a million mistakes

_Count = Annotated[int, Field(ge=0, le=2**128)]
_CountOfSome = Annotated[int, Field(gt=0, le=2**128)]  # that a share is taken of
_Bounds = Annotated[list[_Count], Field(min_length=2, max_length=2)]
_log = logging.getLogger(__name__)


class _Shown(BaseModel):
    """What a report has to say to be shown; it may say more."""

    model_config = ConfigDict(strict=True)


class _Commutes(_Shown):
    agree: _Count
    total: _Count


class _Run(_Shown):
    total: _Count


class _Evaluation(_Shown):
    correct: _Count
    total: _CountOfSome
    error_rate_upper_95: float
    min_logit_margin: float
    range: _Bounds
    base: int
    commutes: _Commutes
    runs: Annotated[list[_Run], Field(min_length=1)]


class _Certificate(_Shown):
    kind: Literal["all pairs", "all lengths"]
    checked: _CountOfSome
    expected: _Count
    wrong: _Count
    base: int
    min_logit_margin: float
    dtype: str
    range: _Bounds | None = None

    @model_validator(mode="after")
    def _pairs_are_of_a_range(self) -> "_Certificate":
        if self.kind == "all pairs" and self.range is None:
            raise ValueError("no range")
        return self


class _LengthRow(_Shown):
    num_digits: _Count
    kind: str
    correct: _Count
    total: _Count
    error_rate_upper_95: float


class _Lengths(_Shown):
    trained_digits: _Count
    base: int
    lengths: list[_LengthRow]


_SHAPES = {EVALUATION: _Evaluation, CERTIFICATE: _Certificate, LENGTHS: _Lengths, ATTENTION: _Shown}


def is_of_config(folder: Path, report: dict) -> bool:
    """Whether the config that a report names, if it names one, is that of the folder: it decides what weights do."""
    claimed = report.get("config_sha256")
    return claimed is None or claimed == sha256_of(folder / CONFIG)


def read_reports(folder: Path, model_sha256: str) -> dict[str, dict]:
    """Read the JSON reports that are about these weights: {"evaluation.json": {...}}.

    What is damaged, or cannot be shown, is left out with a warning.
    """
    found = {}
    for name, shape in _SHAPES.items():
        try:
            report = read_json(folder, name, MOST_BYTES) if os.path.lexists(folder / name) else {}
            if report.get("model_sha256") == model_sha256 and is_of_config(folder, report):
                shape.model_validate(report)
                found[name] = report
        except ArtefactError as error:
            _log.warning("%s; it is left out", error)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            _log.warning("%s is left out: %s", folder / name, f"{place}: {first['msg']}".removeprefix(": "))
    return found


def report_files(folder: Path, model_sha256: str) -> list[str]:
    """Names of the reports in a folder that are about these weights, and of the pictures drawn from them."""
    current = read_reports(folder, model_sha256)
    drawn_from = {EVALUATION: (ACCURACY,), ATTENTION: (ATTENTION_PICTURES,)}
    patterns = [pattern for name in current for pattern in (name, *drawn_from.get(name, ()))]
    return sorted(path.name for pattern in patterns for path in folder.glob(pattern))
