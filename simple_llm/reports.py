"""Reports beside a model: what was measured of it, after it was finished.

They are not in the manifest. Each names the weights it is about by `model_sha256`; what is about other weights is not
shown, and not uploaded.
"""

from pathlib import Path

from simple_llm.errors import ArtefactError
from simple_llm.plain_files import read_json

MOST_BYTES = 2**28  # of a report, which may list a million mistakes
EVALUATION = "evaluation.json"
ACCURACY = "evaluation.png"
CERTIFICATE = "certificate.json"
LENGTHS = "lengths.json"
ATTENTION = "attention.json"
ATTENTION_PICTURES = "attention_*.png"
_NEEDED = {  # keys that a report has to have to be shown
    EVALUATION: ("correct", "total", "error_rate_upper_95", "min_logit_margin", "range", "commutes", "runs"),
    CERTIFICATE: ("kind", "checked", "expected", "wrong", "base", "min_logit_margin", "dtype"),
    LENGTHS: ("trained_digits", "base", "lengths"),
    ATTENTION: (),
}
REPORTS = (EVALUATION, ACCURACY, CERTIFICATE, LENGTHS, ATTENTION, ATTENTION_PICTURES)  # names, and a pattern of names


def read_reports(folder: Path, model_sha256: str) -> dict[str, dict]:
    """Read the JSON reports that are about these weights: {"evaluation.json": {...}}; what is damaged is left out."""
    found = {}
    for name, needed in _NEEDED.items():
        try:
            report = read_json(folder, name, MOST_BYTES)
            if report["model_sha256"] == model_sha256 and all(key in report for key in needed):
                found[name] = report
        except (ArtefactError, KeyError):
            continue
    return found


def report_files(folder: Path, model_sha256: str) -> list[str]:
    """Names of the reports in a folder that are about these weights, and of the pictures drawn from them."""
    current = read_reports(folder, model_sha256)
    drawn_from = {EVALUATION: (ACCURACY,), ATTENTION: (ATTENTION_PICTURES,)}
    patterns = [pattern for name in current for pattern in (name, *drawn_from.get(name, ()))]
    return sorted(path.name for pattern in patterns for path in folder.glob(pattern))
