"""The model card, README.md of a model folder: written from what was configured and measured, and from nothing else.

What it says stands in model_card.md; here is what is put into that, and what is left out.
"""

import json
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from simple_llm.arithmetic import BY_NAME
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.drawing import right_work
from simple_llm.arithmetic.integers import digit_count
from simple_llm.arithmetic.multiplication import MULTIPLICATION
from simple_llm.arithmetic.operation import Operation
from simple_llm.config.loading import load_configs
from simple_llm.config.settings import DataConfig, TrainConfig
from simple_llm.evaluation.certificates import AllLengths, Certificate, Counted, in_words, read_as_certificate
from simple_llm.evaluation.reports import read_reports, report_files
from simple_llm.evaluation.scoring import Score
from simple_llm.files.manifest import sha256_of
from simple_llm.files.names import (
    ACCURACY,
    ATTENTION_BY_PLACE,
    ATTENTION_OVERVIEW,
    CARD,
    CERTIFICATE,
    CONFIG_FILES,
    CURVE,
    EVALUATION,
    EXTRA_CODE,
    LENGTHS,
    MANIFEST,
    MODEL_CODE,
    TOKENIZER_CODE,
    VERIFY,
    WEIGHTS,
)
from simple_llm.files.ours import require_ours
from simple_llm.files.writing import alone_with
from simple_llm.model.folder import write_report
from simple_llm.model.prompts import EXAMPLES
from simple_llm.model.travelling import travelling_code
from simple_llm.run_log import beside_result

NEEDS = ("torch==2.13.0", "transformers>=5.23,<5.25")  # lines of requirements.txt, which an installed package lacks
_STRATA = ("uniform", "lengths", "carries")
_PICTURES = (ACCURACY, CURVE, ATTENTION_BY_PLACE, ATTENTION_OVERVIEW)
_TEMPLATE = Path(__file__).with_suffix(".md").read_text(encoding="utf-8").rstrip("\n")
_CONDITION = re.compile(r"(?:\[([a-z_., ]+)\] )?(.*)")  # before a line of the template, and the line


@dataclass(frozen=True)
class CardFacts:
    """What is known of a model.

    Attributes:
        training: of the manifest: step, num_correct and num_total of the last validation, num_parameters, repairs,
            commit.
        reports: about these weights, {"evaluation.json": {...}}.
        pictures: names of those in the folder.
        needs: what its code was tested with, as pip takes it.
        extra_code: names of what lies in the folder besides the code of model and tokenizer.
    """

    data: DataConfig
    train: TrainConfig
    training: dict
    reports: dict[str, dict] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()
    needs: tuple[str, ...] = NEEDS
    extra_code: tuple[str, ...] = ()


def read_card_facts(folder: Path) -> CardFacts:
    """Gather what a model folder says about its model; the folder is one that `load_model` accepts."""
    data, train = load_configs(*(folder / name for name in CONFIG_FILES), [], are_recorded=True)
    sha256 = sha256_of(folder / WEIGHTS)
    present = [name for name in (CURVE,) if (folder / name).exists()] + report_files(folder, sha256)
    pictures = tuple(name for name in _PICTURES if name in present)
    training = json.loads((folder / MANIFEST).read_bytes())
    extra_code = tuple(name for name in EXTRA_CODE if name in training["files"])
    needs = _needs(folder, training["versions"])
    return CardFacts(data, train, training, read_reports(folder, sha256), pictures, needs, extra_code)


def _needs(folder: Path, versions: dict[str, str]) -> tuple[str, ...]:
    """What the code in a folder was tested with; of other code than the package's, what it was made with is known."""
    code = (MODEL_CODE, TOKENIZER_CODE)
    if all((folder / name).read_bytes() == travelling_code(name).encode() for name in code):
        return NEEDS
    return tuple(f"{name}=={versions[name].partition('+')[0]}" for name in ("torch", "transformers"))


def write_card(folder: Path, repo_id: str | None = None, branch: str = "main") -> None:
    """Write a folder's card anew; see `model_card`. Who writes it last knows what all the others have reported."""
    with alone_with(folder / CARD):
        write_report(
            folder, CARD, model_card(read_card_facts(folder), repo_id, branch).encode("utf-8", "backslashreplace")
        )


def record(
    folder: Path, name: str, report: dict[str, object], pictures: dict[str, Callable[[Path], object]] | None = None
) -> Path:
    """Write a JSON report beside a model, then pictures of it, and the card, which shows it; return the report's path.

    Args:
        pictures: what draws each, by name. One that fails is missing, rather than there from another report.
    """
    path = write_report(folder, name, (json.dumps(report, indent=1) + "\n").encode())
    for picture, draw in (pictures or {}).items():
        with beside_result(picture):
            require_ours(folder, [picture])
            (folder / picture).unlink(missing_ok=True)
            draw(folder / picture)
    with beside_result(CARD):
        write_card(folder)
    return path


def headline(facts: CardFacts) -> str:
    """Say in one line how far a model was trained and how it does: the message of a commit."""
    step = f"step {facts.training['step']:,}"
    if certificate := _certificate(facts):
        return f"{step}: {certificate.right:,} of {certificate.checked:,} {_what_is_checked(certificate)} right"
    if report := facts.reports.get(EVALUATION):
        return f"{step}: {report['correct']:,} of {report['total']:,} held-out problems exact"
    if repairs := facts.training.get("repairs"):
        return f"{step}, repaired {len(repairs)} times"
    score = _validation_score(facts)
    return f"{step}: {score.num_correct:,} of {score.num_total:,} validation problems exact"


def model_card(facts: CardFacts, repo_id: str | None = None, branch: str = "main") -> str:
    """Write the card.

    Args:
        repo_id: of the repository it is shown in; without one its example runs in the model's own folder.
        branch: of that repository; another than main holds a checkpoint of a training that goes on.
    """
    values = _values(facts, repo_id, branch)
    true = _conditions(facts, is_at_home=not repo_id, is_checkpoint=branch != "main")
    shown = (_shown(paragraph, true, values) for paragraph in _TEMPLATE.split("\n\n"))
    return "\n\n".join(paragraph for paragraph in shown if paragraph) + "\n"


def _shown(paragraph: str, true: set[str], values: dict[str, object]) -> str:
    """Write a paragraph of the template; "" if it has a condition that is none of the true ones.

        [repaired] Then ...    at the beginning of a paragraph: all of it is shown only where a model was repaired
                               at the beginning of another line: that line

    Prose is broken into lines anew; what begins like a heading, a list, a table, a picture or code stays as it is.
    """
    lines = [_CONDITION.fullmatch(line).groups() for line in paragraph.splitlines()]
    if lines[0][0] and lines[0][0] not in true:
        return ""
    kept = "\n".join(text for condition, text in lines if condition is None or condition in true)
    text = kept.format(**values)
    if text.startswith(("#", "-", "|", "!", "`")):
        return text
    return textwrap.fill(" ".join(text.split()), 110, break_long_words=False, break_on_hyphens=False)


# ---- Metadata -------------------------------------------------------------------------------------


def _metadata(facts: CardFacts, repo_id: str | None) -> str:
    card_data = ModelCardData(
        license="mit",
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["arithmetic", *(one.title for one in facts.data.operations.known), "gpt2", "simple-llm"],
        model_name=(repo_id or facts.train.paths.model.name).split("/")[-1],
        eval_results=_eval_results(facts) or None,
    )
    return card_data.to_yaml()


def _eval_results(facts: CardFacts) -> list[EvalResult]:
    """The model-index: a share, and beside it what it is a share of."""
    results = []
    if report := facts.reports.get(EVALUATION):
        name = f"held-out {_nouns(facts.data)} {_sampled(facts.data, report, 'of')}"
        args = {key: report[key] for key in ("correct", "total", "range", "base", "model_sha256")}
        results.append(_result(facts, name, "test", "exact_match", report["correct"] / report["total"], args))
        results.append(_result(facts, name, "test", "error_rate_upper_95", report["error_rate_upper_95"], args))
    if certificate := _certificate(facts):
        args = {key: getattr(certificate, key) for key in ("kind", "checked", "wrong", "base", "model_sha256")}
        name = f"every one of the {_what_is_checked(certificate)}"
        results.append(_result(facts, name, "all", "exact_match", certificate.right / certificate.checked, args))
    score = _validation_score(facts)
    if not results and score.num_total and "repairs" not in facts.training:
        name, args = f"validation {_nouns(facts.data)}", {"correct": score.num_correct, "total": score.num_total}
        results.append(_result(facts, name, "validation", "exact_match", score.num_correct / score.num_total, args))
        results.append(_result(facts, name, "validation", "error_rate_upper_95", score.error_rate_upper_95, args))
    return results


def _result(facts: CardFacts, dataset: str, split: str, metric: str, value: float, args: dict) -> EvalResult:
    return EvalResult(
        task_type="text-generation",
        task_name=f"{in_words([one.title for one in facts.data.operations.known]).capitalize()} of integers",
        dataset_type="simple-llm",
        dataset_name=dataset,
        dataset_split=split,
        dataset_args=args,
        metric_type=metric,
        metric_name=metric.replace("_", " "),
        metric_value=value,
    )


# ---- Text -----------------------------------------------------------------------------------------


def _conditions(facts: CardFacts, is_at_home: bool, is_checkpoint: bool) -> set[str]:
    """Names that stand in brackets in the template, of what is so; a file's stands for what it shows."""
    model, certificate = facts.train.model, _certificate(facts)
    reports = {name for name in facts.reports if name != CERTIFICATE or certificate}
    true = {
        "reversed" if facts.data.numbers.reversed else "not reversed",
        {1: "one token", 2: "two tokens", "all": "all tokens"}[model.tokens_per_step],
        "in its folder" if is_at_home else "in a repository",
        "repaired" if facts.training.get("repairs") else "not repaired",
        "on paper" if model.has_columns else "in one row",
        *reports,
        *facts.pictures,
        *facts.extra_code,
    }
    if not model.has_columns:
        true.add("every length" if model.knows_every_length else "some lengths")
    if facts.data.sampling.large_digits:
        true.add("large digits")
    if len(facts.data.operations.known) > 1:
        true.add("several operations")
    if facts.training.get("commit"):
        true.add("of a commit")
    training = facts.train.training
    if training.num_hard_rows:
        true.add("hard rows")
    if training.averaging and training.averaging_start < facts.training["step"]:
        true.add("mean")
    if is_checkpoint:
        true.add("checkpoint")
    if "operations" in facts.reports.get(EVALUATION, {}):
        true.add("operations")
    if not reports & {EVALUATION, CERTIFICATE, LENGTHS}:
        true.add("nothing")
    if isinstance(certificate, AllLengths):
        kind = "all work" if certificate.scratchpad else "all lengths"
        true |= {kind, "all lengths, some wrong" if certificate.wrong else f"{kind}, all right"}
        if certificate.scratchpad and ADDITION.name in certificate.of_each and not certificate.wrong:
            true.add("sums of many")
    elif certificate:
        true.add("all pairs")
    return true


def _values(facts: CardFacts, repo_id: str | None, branch: str) -> dict[str, object]:
    """What the template names: the facts, and what is computed from them."""
    data, reports, certificate = facts.data, facts.reports, _certificate(facts)
    operations = data.operations.known
    first, name = _example(data, operations[0]), "add" if operations == [ADDITION] else "calculate"
    adds_many = facts.train.model.has_columns and ADDITION in operations
    values = {
        "data": data,
        "model": facts.train.model,
        "train": facts.train.training,
        "training": facts.training,
        "metadata": _metadata(facts, repo_id),
        "operands": _trained_on(data),
        "outside": "of more digits than in training" if data.numbers.sizes else f"outside {_range(data)}",
        "layers": f"{facts.train.model.n_layer} layer{'s' * (facts.train.model.n_layer > 1)}",
        "does": in_words([one.verb for one in operations]),
        "nouns": _nouns(data),
        "noun": operations[0].noun,
        "problem": operations[0].write(*first),
        "name": name,
        "examples": "\n".join(_shown_example(name, one, *_example(data, one)) for one in operations)
        + ("\n" + _shown_example(name, ADDITION, 12, 873, 4) if adds_many and data.numbers.operands > 2 else ""),
        "code": in_words([f"`{name}`" for name in (MODEL_CODE, TOKENIZER_CODE, *facts.extra_code) if name != VERIFY]),
        "and_more": "; a sum may have more of them" if adds_many else "",
        "unknown": _unknown(operations, adds_many),
        "pair": "unordered pair" if all(one.commutes for one in operations) else "problem",
        "needs": " ".join(f'"{one}"' for one in facts.needs),
        "source": f'model="{repo_id or "."}"' + (f', revision="{branch}"' if branch != "main" else ""),
        "shares": ", ".join(f"{share:.0%} {name}" for name, share in data.sampling if share and name in _STRATA),
        "operation_shares": ", ".join(f"{getattr(data.operations, one.name):.0%} {one.noun}s" for one in operations),
        "test_share": 1 - data.split.train - data.split.validation,
        "repair_steps": " and ".join(str(one["steps"]) for one in facts.training.get("repairs") or ()),
        "validation": _validation_score(facts),
    }
    if facts.train.model.has_columns:
        shown = MULTIPLICATION if MULTIPLICATION in operations else operations[0]
        numbers = _example(data, shown)
        values |= {"worked": shown.write(*numbers), "work": right_work(shown.symbol, numbers, data.numbers.base)}
    if report := reports.get(EVALUATION):
        values |= {
            "evaluation": report,
            "exact": Score(report["correct"], report["total"]),
            "sampled": _sampled(data, report, "from"),
            "num_drawn": min(run["total"] for run in report["runs"]),
            "agreement": _agreement(operations, report["commutes"]),
            "by_operation": _by_operation(report),
        }
    if certificate:
        values |= {
            "certificate": certificate,
            "what_is_checked": _what_is_checked(certificate),
            "wrong_ones": in_words([f"{name}s" for name, one in _by_noun(certificate) if one.wrong]),
            "of_each": _of_each(certificate),
        }
    if report := reports.get(LENGTHS):
        values |= {"lengths": report, "rows": "\n".join(_length_row(row, operations) for row in report["lengths"])}
    return values


def _nouns(data: DataConfig) -> str:
    """What a model gives: "sums and differences"."""
    return in_words([f"{one.noun}s" for one in data.operations.known])


def _range(data: DataConfig) -> str:
    return _span(data.numbers.min, data.numbers.max)


def _trained_on(data: DataConfig) -> str:
    """Which numbers there were in training: "from 0 to 9,999", or how many digits those of each operation have."""
    if not data.numbers.sizes:
        return f"from {_range(data)}"
    sizes = []
    for operation in data.operations.known:
        first, second = (digit_count(bounds[1], data.numbers.base) for bounds in data.numbers.bounds(operation))
        sizes.append(f"{first} and {second} {'' if sizes else 'digits '}in {operation.noun}s")
    return f"of up to {in_words(sizes)}"


def _sampled(data: DataConfig, report: dict, preposition: str) -> str:
    """Which numbers an evaluation drew: "from 0 to 9,999", or "of the sizes of training"."""
    is_chosen = report["range"] != [data.numbers.min, data.numbers.max]
    has_range = is_chosen or not data.numbers.sizes
    return f"{preposition} {_span(*report['range'])}" if has_range else "of the sizes of training"


def _unknown(operations: list[Operation], adds_many: bool) -> str:
    """What is nothing to a model."""
    signs = ["signs"] if operations == [ADDITION] else []
    return in_words(["Other operations", *signs, "fractions", *([] if adds_many else ["a third operand"])])


def _agreement(operations: list[Operation], counts: dict[str, int]) -> str:
    """Of what may change places, whether that changes the answer; nothing of what may not."""
    commuting = [one for one in operations if one.commutes]
    if not commuting:
        return ""
    one = commuting[0]
    return f"; {one.write('a', 'b')} and {one.write('b', 'a')} agree on {Score(counts['agree'], counts['total'])}"


def _by_operation(report: dict) -> str:
    """The counts of each operation of an evaluation, "sums 10,000 / 10,000"."""
    counts = report.get("operations", {}).items()
    return ", ".join(f"{BY_NAME[name].noun}s {Score(one['correct'], one['total'])}" for name, one in counts)


def _length_row(row: dict, operations: list[Operation]) -> str:
    score, operation = Score(row["correct"], row["total"]), BY_NAME[row.get("operation", ADDITION.name)]
    kind = row["kind"] if operations == [ADDITION] else f"{operation.noun}s, {row['kind']}"
    return f"| {row['num_digits']:,} | {kind} | {score} | {row['error_rate_upper_95']:.2e} |"


def _certificate(facts: CardFacts) -> Certificate | None:
    """The certificate, if it is a complete one."""
    if not (report := facts.reports.get(CERTIFICATE)):
        return None
    certificate = read_as_certificate(report)
    return certificate if certificate.is_whole else None


def _by_noun(certificate: Certificate) -> list[tuple[str, Certificate | Counted]]:
    """What was counted of each operation: [("sum", ...)]."""
    return [(BY_NAME[name].noun, one) for name, one in certificate.of_each.items()]


def _of_each(certificate: Certificate) -> str:
    """What was counted of each operation: "Of sums 693 / 693, smallest margin 6.83; of differences 753 / 753, ..."."""
    counted = (
        f"of {noun}s {Score(one.checked - one.wrong, one.checked)}, smallest margin {one.min_logit_margin:.2f}"
        for noun, one in _by_noun(certificate)
    )
    return "; ".join(counted).capitalize()


def _what_is_checked(certificate: Certificate) -> str:
    if isinstance(certificate, AllLengths) and certificate.scratchpad:
        return f"contexts that a token of work on paper can have, for numbers of any length (base {certificate.base})"
    if isinstance(certificate, AllLengths):
        return f"contexts that a digit of a sum of any length can depend on (base {certificate.base})"
    of = "" if not certificate.operations else f", {' and '.join(BY_NAME[one].noun for one in certificate.operations)},"
    return f"ordered pairs of {_span(*certificate.range)}{of}"


def _validation_score(facts: CardFacts) -> Score:
    return Score(facts.training["num_correct"], facts.training["num_total"])


def _span(minimum: int, maximum: int) -> str:
    return f"{minimum:,} to {maximum:,}"


def _example(data: DataConfig, operation: Operation) -> tuple[int, int]:
    """A problem of an operation, in the range of the model."""
    x, y = (1342, 879) if operation.step else EXAMPLES[operation.name]
    first, second = data.numbers.bounds(operation)
    if first[0] <= x <= first[1] and second[0] <= y <= second[1]:
        return x, y
    return first[1], sum(second) // 2


def _shown_example(name: str, operation: Operation, *numbers: int) -> str:
    """A line that asks a problem, and says what is right."""
    answer, *rest = operation.answer(*numbers)
    right = f"{answer} r {rest[0]}" if any(rest) else answer
    problem = operation.write(*numbers)
    return f'print({name}("{problem}=")[0]["generated_text"])  # the {operation.noun} is {right}'
