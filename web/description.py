"""What the pages are told about their models: model.json."""

from collections.abc import Iterable
from pathlib import Path

from simple_llm.arithmetic.addition import ADDITION
from simple_llm.evaluation.certificates import AllPairs, read_as_certificate
from simple_llm.evaluation.reports import read_reports
from simple_llm.files.names import CERTIFICATE, EVALUATION, WEIGHTS
from simple_llm.model.folder import LoadedModel
from simple_llm.model.known_contexts import TokenSymbols
from web.onnx_export import Comparison


def describe(loaded: LoadedModel, folder: Path, comparison: Comparison) -> dict[str, object]:
    """Say how the model reads and writes numbers, how large it is, and how sure its answers are.

    `range` is null where the model knows every length, and `answer_tokens` is then up to the numbers.
    """
    config, vocabulary = loaded.model.config, loaded.vocabulary
    numbers, knows_every_length = loaded.data.numbers, loaded.train.model.knows_every_length
    largest = min(bounds[1] for bounds in numbers.bounds(ADDITION))  # that both may be
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
        "range": None if knows_every_length else _bounds([numbers.min, largest]),
        "answer_tokens": None if knows_every_length else loaded.data.answer_tokens,
        "layers": config.n_layer,
        "heads": config.n_head,
        "width": config.n_embd,
        "parameters": loaded.model.num_parameters(),
        "model_sha256": loaded.sha256,
        "evidence": evidence(folder, loaded.sha256),
        "same_as_torch": [comparison.num_same, comparison.num_problems],
    }


def describe_calculator(loaded: LoadedModel, folder: Path) -> dict[str, object]:
    """The same of a model that works as on paper, with all that is needed to run it beside its weights.

    `symbols` are the tokens of digits, carries and signs, in the order of `simple_llm.arithmetic.symbols`.
    """
    config, certificate = loaded.model.config, read_reports(folder, loaded.sha256).get(CERTIFICATE)
    proved = read_as_certificate(certificate) if certificate else None
    is_proof = proved is not None and proved.is_whole and proved.kind == "all lengths"
    return {
        "base": loaded.data.numbers.base,
        "operators": [one.symbol for one in loaded.operations],
        "symbols": TokenSymbols(config).tokens.tolist(),
        "heads": config.n_head,
        "width": config.n_embd,
        "neurons": config.n_inner or 4 * config.n_embd,
        "epsilon": config.layer_norm_epsilon,
        "activation": config.activation_function,
        "parameters": loaded.model.num_parameters(),
        "bytes": (folder / WEIGHTS).stat().st_size,
        "model_sha256": loaded.sha256,
        "evidence": {"correct": proved.right, "total": proved.expected} if is_proof else None,
    }


def evidence(folder: Path, model_sha256: str) -> dict[str, object] | None:
    """Find the best that is known of a model: its certificate, else its evaluation, else nothing.

    What is of another model is no evidence, and what cannot be read is none either.

    Returns:
        kind ("all pairs", "all lengths" or "sample"), correct, total, range (of operands; null for every length), and
        of a sample error_rate_upper_95.
    """
    reports = read_reports(folder, model_sha256)
    for name, read in ((CERTIFICATE, _of_certificate), (EVALUATION, _of_evaluation)):
        if name in reports and (found := read(reports[name])):
            return found
    return None


def _of_certificate(report: dict) -> dict[str, object] | None:
    """What a certificate counted of sums, which are all that the page asks for; nothing if it is not whole."""
    certificate = read_as_certificate(report)
    if not certificate.is_whole:
        return None
    bounds, counted = None, certificate
    if isinstance(certificate, AllPairs):
        bounds, counted = _bounds(certificate.range), certificate.of_each.get(ADDITION.name)
    if counted is None:
        return None
    right = counted.checked - counted.wrong
    return {"kind": certificate.kind, "correct": right, "total": counted.expected, "range": bounds}


def _of_evaluation(report: dict) -> dict[str, object]:
    of_sums = report.get("operations", {}).get(ADDITION.name, report)
    counts = {key: of_sums[key] for key in ("correct", "total", "error_rate_upper_95")}
    return {"kind": "sample", **counts, "range": _bounds(report["range"])}


def _bounds(numbers: Iterable[int]) -> list[str]:
    """As text: a browser would round large ones."""
    return [str(number) for number in numbers]
