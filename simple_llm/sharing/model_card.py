"""The model card, README.md of a model folder: written from what was configured and measured, and from nothing else."""

import json
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from simple_llm.config.loading import load_configs
from simple_llm.config.settings import DataConfig, TrainConfig
from simple_llm.evaluation.certificates import AllLengths, Certificate, read_as_certificate
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
    LENGTHS,
    MANIFEST,
    WEIGHTS,
)
from simple_llm.model.folder import write_report

NEEDS = ("torch==2.13.0", "transformers>=5.23,<5.25")  # lines of requirements.txt, which an installed package lacks
_PICTURES = {
    ACCURACY: "Exact match on held-out problems, by the lengths of both operands and by length and carry chain",
    CURVE: "Loss, and exact match by longest carry chain, over the steps of training",
    ATTENTION_BY_PLACE: "How much each head looks at the place being said, at the place below and elsewhere",
    ATTENTION_OVERVIEW: "What each head of each layer looks at in one problem",
}


@dataclass(frozen=True)
class CardFacts:
    """What is known of a model.

    Attributes:
        training: of the manifest: step, num_correct and num_total of the last validation, num_parameters, repairs.
        reports: about these weights, {"evaluation.json": {...}}.
        pictures: names of those in the folder.
    """

    data: DataConfig
    train: TrainConfig
    training: dict
    reports: dict[str, dict] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()


def read_card_facts(folder: Path) -> CardFacts:
    """Gather what a model folder says about its model; the folder is one that `load_model` accepts."""
    data, train = load_configs(*(folder / name for name in CONFIG_FILES), [], are_recorded=True)
    sha256 = sha256_of(folder / WEIGHTS)
    present = [name for name in (CURVE,) if (folder / name).exists()] + report_files(folder, sha256)
    pictures = tuple(name for name in _PICTURES if name in present)
    training = json.loads((folder / MANIFEST).read_bytes())
    return CardFacts(data, train, training, read_reports(folder, sha256), pictures)


def write_card(folder: Path, repo_id: str | None = None, branch: str = "main") -> None:
    """Write a folder's card anew; see `model_card`."""
    write_report(folder, CARD, model_card(read_card_facts(folder), repo_id, branch).encode())


def record(folder: Path, name: str, report: dict[str, object]) -> Path:
    """Write a JSON report beside a model, and the card, which shows it; return the report's path."""
    path = write_report(folder, name, (json.dumps(report, indent=1) + "\n").encode())
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
    sections = [
        _metadata(facts, repo_id),
        _introduction(facts, branch),
        _usage(facts.data, repo_id, branch),
        _measurements(facts),
        _training(facts),
        _limits(facts),
    ]
    return "\n\n".join(sections) + "\n"


# ---- Metadata -------------------------------------------------------------------------------------


def _metadata(facts: CardFacts, repo_id: str | None) -> str:
    card_data = ModelCardData(
        license="mit",
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["arithmetic", "addition", "gpt2", "simple-llm"],
        model_name=(repo_id or facts.train.paths.model.name).split("/")[-1],
        eval_results=_eval_results(facts) or None,
    )
    return f"---\n{card_data.to_yaml()}\n---"


def _eval_results(facts: CardFacts) -> list[EvalResult]:
    """The model-index: a share, and beside it what it is a share of."""
    results = []
    if report := facts.reports.get(EVALUATION):
        name = f"held-out sums of {_span(*report['range'])}"
        args = {key: report[key] for key in ("correct", "total", "range", "base", "model_sha256")}
        results.append(_result(name, "test", "exact_match", report["correct"] / report["total"], args))
        results.append(_result(name, "test", "error_rate_upper_95", report["error_rate_upper_95"], args))
    if certificate := _certificate(facts):
        args = {key: getattr(certificate, key) for key in ("kind", "checked", "wrong", "base", "model_sha256")}
        name = f"every one of the {_what_is_checked(certificate)}"
        results.append(_result(name, "all", "exact_match", certificate.right / certificate.checked, args))
    score = _validation_score(facts)
    if not results and score.num_total and "repairs" not in facts.training:
        name, args = "validation sums", {"correct": score.num_correct, "total": score.num_total}
        results.append(_result(name, "validation", "exact_match", score.num_correct / score.num_total, args))
        results.append(_result(name, "validation", "error_rate_upper_95", score.error_rate_upper_95, args))
    return results


def _result(dataset: str, split: str, metric: str, value: float, args: dict) -> EvalResult:
    return EvalResult(
        task_type="text-generation",
        task_name="Addition of integers",
        dataset_type="simple-llm",
        dataset_name=dataset,
        dataset_split=split,
        dataset_args=args,
        metric_type=metric,
        metric_name=metric.replace("_", " "),
        metric_value=value,
    )


# ---- Text -----------------------------------------------------------------------------------------


def _introduction(facts: CardFacts, branch: str) -> str:
    data, model, training = facts.data, facts.train.model, facts.training
    order = "least significant digit first" if data.numbers.reversed else "most significant digit first"
    steps = {1: "one token a step", 2: "two tokens a step", "all": "the whole answer in one pass"}
    x, y = _example(data)
    paragraphs = [
        f"""Given `{x}+{y}=`, it goes on with the sum. It was trained from scratch on sums of whole numbers from
        {_span(data.numbers.min, data.numbers.max)}, and has {training["num_parameters"]:,} parameters: {model.n_layer}
        layers, {model.n_head} heads, width {model.n_embd}. It writes numbers in base {data.numbers.base}, {order}, has
        `{model.position_embedding}` positions and says {steps[model.tokens_per_step]}; its tokenizer reads and writes
        decimal."""
    ]
    if branch != "main":
        paragraphs.append(
            f"""**This is a checkpoint**, uploaded while training went on: step {training["step"]:,} of at most
            {facts.train.training.max_steps:,}. The finished model goes to the branch `main`."""
        )
    return "\n\n".join(["# A GPT-2 that adds", *map(_filled, paragraphs)])


def _usage(data: DataConfig, repo_id: str | None, branch: str) -> str:
    source = f'model="{repo_id or "."}"' + (f', revision="{branch}"' if branch != "main" else "")
    here = "" if repo_id else ", in this folder"
    x, y = _example(data)
    return f"""## Use

```console
pip install {" ".join(f'"{one}"' for one in NEEDS)}
```

And then{here}:

```python
from transformers import pipeline
add = pipeline("text-generation", {source}, trust_remote_code=True)
print(add("{x}+{y}=")[0]["generated_text"])  # the sum is {x + y}
```

A list of problems gets a list of answers. The code that comes with the model is `modeling_simple_llm.py` and
`tokenization_simple_llm.py`: short, and worth a look before `trust_remote_code=True`."""


def _measurements(facts: CardFacts) -> str:
    paragraphs = ["## What was measured"]
    if report := facts.reports.get(EVALUATION):
        agree = Score(report["commutes"]["agree"], report["commutes"]["total"])
        paragraphs.append(
            f"""**{Score(report["correct"], report["total"])} held-out problems exact**, operands from
            {_span(*report["range"])}, drawn uniformly from the side of the split that was never trained on. Error rate
            at most {report["error_rate_upper_95"]:.2e} (95%, one-sided, exact binomial,
            n = {min(run["total"] for run in report["runs"]):,}); smallest margin {report["min_logit_margin"]:.2f}
            logits; a+b and b+a agree on {agree}."""
        )
    if certificate := _certificate(facts):
        paragraphs.append(_certificate_text(certificate))
    if not paragraphs[1:] and LENGTHS not in facts.reports:
        paragraphs.append("Nothing yet on problems that were never trained on: `python3 evaluate.py` counts them.")
    paragraphs = [*map(_filled, paragraphs), *_shown(facts, ACCURACY)]
    if report := facts.reports.get(LENGTHS):
        paragraphs.append(_lengths_table(report))
    return "\n\n".join([*paragraphs, *_shown(facts, ATTENTION_BY_PLACE, ATTENTION_OVERVIEW)])


def _lengths_table(report: dict) -> str:
    lines = [
        f"Digits of the longest operands in training: {report['trained_digits']:,}, in base {report['base']}.",
        "",
        "| digits of both operands | drawn | exact | error rate at most (95%) |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['num_digits']:,} | {row['kind']} | {Score(row['correct'], row['total'])} "
        f"| {row['error_rate_upper_95']:.2e} |"
        for row in report["lengths"]
    ]
    return "\n".join(lines)


def _certificate_text(certificate: Certificate) -> str:
    right, checked = certificate.right, certificate.checked
    follows = "no sample, all of them"
    if isinstance(certificate, AllLengths):
        follows = "so every sum of two numbers, however long, is" if right == checked else "so some sums are not"
    return f"""**{right:,} of {checked:,} {_what_is_checked(certificate)} right**: {follows}. Smallest margin
        {certificate.min_logit_margin:.2f} logits in {certificate.dtype}; `{CERTIFICATE}` has the whole record."""


def _training(facts: CardFacts) -> str:
    data, train = facts.data, facts.train.training
    shares = ", ".join(f"{share:.0%} {name}" for name, share in data.sampling if share)
    test = 1 - data.split.train - data.split.validation
    paragraphs = (
        f"""{data.storage.num_sequences:,} problems were drawn: {shares}. *Uniform* is over values, *lengths* over
        numbers of digits first, *carries* has carries that travel over several places. A hash of the unordered pair
        puts {data.split.train:.0%} of all pairs on the training side, {data.split.validation:.0%} on the validation
        side and {test:.0%} on the test side, which is never written.""",
        f"""{facts.training["step"]:,} steps of {train.batch_size:,} problems; Muon (learning rate
        {train.muon_learning_rate:g}) for the matrices inside the blocks, AdamW ({train.learning_rate:g}) for the rest;
        seed {train.seed}. {_outcome(facts)}""",
        "All settings are in `data_config.yaml` and `train_config.yaml`, all hashes in `manifest.json`.",
    )
    return "\n\n".join(["## How it was trained", *map(_filled, paragraphs), *_shown(facts, CURVE)])


def _outcome(facts: CardFacts) -> str:
    if repairs := facts.training.get("repairs"):
        steps = " and ".join(str(one["steps"]) for one in repairs)
        return f"Then {steps} steps more, half of whose problems were like those it got wrong."
    return f"After the last step {_validation_score(facts)} validation problems were exact."


def _limits(facts: CardFacts) -> str:
    longer = "are not what it was trained for"
    if facts.train.model.knows_every_length:
        longer = "are longer than in training. It has positions for them; how well it does is said above, or not known"
    return f"""## Limits

- It adds two whole numbers. Other operations, signs, fractions and a third operand are nothing to it.
- Operands outside {_span(facts.data.numbers.min, facts.data.numbers.max)} {longer}.
- It is a network: a sample bounds how often it is wrong, and cannot rule it out. Only a certificate counts every case,
  for these weights and that arithmetic.
- The figures are of greedy decoding, the default. Sampling, or arithmetic of fewer bits, may say something else where
  a margin is small."""


def _shown(facts: CardFacts, *names: str) -> list[str]:
    """Pictures that there are, a paragraph each."""
    return [f"![{_PICTURES[name]}]({name})" for name in names if name in facts.pictures]


def _filled(paragraph: str) -> str:
    """Break a paragraph into lines anew."""
    return textwrap.fill(" ".join(paragraph.split()), 110, break_long_words=False, break_on_hyphens=False)


def _certificate(facts: CardFacts) -> Certificate | None:
    """The certificate, if it is a complete one."""
    if not (report := facts.reports.get(CERTIFICATE)):
        return None
    certificate = read_as_certificate(report)
    return certificate if certificate.is_whole else None


def _what_is_checked(certificate: Certificate) -> str:
    if isinstance(certificate, AllLengths):
        return f"contexts that a digit of a sum of any length can depend on (base {certificate.base})"
    return f"ordered pairs of {_span(*certificate.range)}"


def _validation_score(facts: CardFacts) -> Score:
    return Score(facts.training["num_correct"], facts.training["num_total"])


def _span(minimum: int, maximum: int) -> str:
    return f"{minimum:,} to {maximum:,}"


def _example(data: DataConfig) -> tuple[int, int]:
    """A problem in the model's range."""
    x, y = 1342, 879
    if data.numbers.min <= y and x <= data.numbers.max:
        return x, y
    return data.numbers.max, (data.numbers.min + data.numbers.max) // 2
