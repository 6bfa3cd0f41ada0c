"""What the page is told about its model: model.json."""

import json
from pathlib import Path

from simple_llm.model_folder import LoadedModel, vocabulary_of
from simple_llm.onnx_export import Comparison
from simple_llm.proof import CERTIFICATE

EVALUATION = "evaluation.json"


def describe(loaded: LoadedModel, folder: Path, comparison: Comparison) -> dict[str, object]:
    """Say how the model reads and writes numbers, how large it is, and how sure its answers are.

    `range` is null where the model knows every length, and `answer_tokens` is then up to the numbers.
    """
    config, vocabulary = loaded.model.config, vocabulary_of(loaded.tokenizer)
    numbers, knows_every_length = loaded.data.numbers, loaded.train.model.knows_every_length
    return {
        "base": numbers.base,
        "reversed": vocabulary.reversed,
        "longer_second": vocabulary.says_all,
        "digit_ids": list(vocabulary.digit_ids),
        "delimiter_id": vocabulary.delimiter_id,
        "pad_id": vocabulary.pad_id,
        "tokens_per_step": config.tokens_per_step,
        "position_embedding": config.position_embedding,
        "attention_window": config.attention_window,
        "position_period": config.position_period,
        "range": None if knows_every_length else [str(numbers.min), str(numbers.max)],
        "answer_tokens": None if knows_every_length else loaded.data.answer_digits + 1,
        "layers": config.n_layer,
        "heads": config.n_head,
        "width": config.n_embd,
        "parameters": sum(weight.numel() for weight in loaded.model.parameters()),
        "model_sha256": loaded.sha256,
        "evidence": evidence(folder, loaded.sha256),
        "same_as_torch": [comparison.num_same, comparison.num_problems],
    }


def evidence(folder: Path, model_sha256: str) -> dict[str, object] | None:
    """Find the best that is known of a model: its certificate, else its evaluation, else nothing.

    What is of another model is no evidence, and what cannot be read is none either.

    Returns:
        kind ("all pairs", "all lengths" or "sample"), correct, total, range (of operands; null for every length), and
        of a sample error_rate_upper_95.
    """
    certificate = _report(folder / CERTIFICATE, model_sha256)
    if certificate is not None and certificate["checked"] == certificate["expected"]:
        return {
            "kind": certificate.get("kind", "all pairs"),
            "correct": certificate["checked"] - certificate["wrong"],
            "total": certificate["expected"],
            "range": certificate.get("range"),
        }
    evaluation = _report(folder / EVALUATION, model_sha256)
    if evaluation is not None:
        return {"kind": "sample", **{key: evaluation[key] for key in _OF_A_SAMPLE}}
    return None


_OF_A_SAMPLE = ("correct", "total", "range", "error_rate_upper_95")


def _report(path: Path, model_sha256: str) -> dict | None:
    """Read a report beside a model if it is there and of this model."""
    try:
        report = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return report if report.get("model_sha256") == model_sha256 else None
