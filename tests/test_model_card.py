import json
import math
import re
import shlex
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
import transformers
import yaml

from simple_llm import __version__
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.config.loading import load_configs
from simple_llm.config.settings import (
    AttentionWindow,
    DataConfig,
    Model,
    Numbers,
    Operations,
    Sampling,
    Sizes,
    TrainConfig,
)
from simple_llm.evaluation.reports import read_reports
from simple_llm.model.folder import load_model, write_report
from simple_llm.model.network import save_model
from simple_llm.model.tokenizer_files import save_tokenizer
from simple_llm.sharing.model_card import CardFacts, headline, model_card, NEEDS, read_card_facts, write_card
from tests.forked import fork_stranger
from tests.paper_model import ON_PAPER
from tests.pipeline import REPOSITORY, run_python
from tests.test_every_path_on_paper import by_integers
from tests.tiny_models import make_data_config, make_tokenizer, make_train_config

pytestmark = pytest.mark.library

TRAINING = {"step": 1000, "num_correct": 998, "num_total": 1000, "num_parameters": 6_327_552}
EVALUATION = {
    "correct": 9_999,
    "total": 10_000,
    "error_rate_upper_95": 4.74e-4,
    "min_logit_margin": -0.25,
    "range": [0, 9999],
    "base": 16,
    "commutes": {"agree": 9_990, "total": 10_000},
    "runs": [{"total": 10_000}],
    "model_sha256": "abc",
}
ALL_PAIRS = {
    "kind": "all pairs",
    "range": [0, 9999],
    "expected": 10**8,
    "checked": 10**8,
    "wrong": 0,
    "failures": [],
    "min_logit_margin": 2.25,
    "dtype": "bfloat16, float32",
    "base": 16,
    "model_sha256": "abc",
}
ALL_LENGTHS = {**ALL_PAIRS, "kind": "all lengths", "expected": 98_664, "checked": 98_664, "range": None, "base": 10}

ALL_WORK = {
    "kind": "all lengths",
    "scratchpad": "columns",
    "expected": 1446,
    "checked": 1446,
    "wrong": 0,
    "failures": [],
    "min_logit_margin": 2.25,
    "dtype": "float32",
    "base": 10,
    "model_sha256": "abc",
    "operations": {
        "add": {"expected": 693, "checked": 693, "wrong": 0, "min_logit_margin": 6.828},
        "subtract": {"expected": 753, "checked": 753, "wrong": 0, "min_logit_margin": 2.25},
    },
}
ALL_FOUR = DataConfig(
    numbers=Numbers(max=80, base=10, operands=3, sizes=Sizes(multiply=[5, 4], divide=[7, 5])),
    operations=Operations(add=0.25, subtract=0.25, multiply=0.25, divide=0.25),
    sampling=Sampling(large_digits=0.3),
)
WORK_LENGTHS = {
    "trained_digits": 7,
    "base": 10,
    "lengths": [
        {"num_digits": 3, "kind": "uniform", "operation": name, "correct": right, "total": 9, "error_rate_upper_95": at}
        for name, right, at in (("add", 9, 0.1), ("divide", 8, 0.2))
    ],
}
SOME_WORK = {
    **ALL_WORK,
    "wrong": 2,
    "operations": {**ALL_WORK["operations"], "subtract": {**ALL_WORK["operations"]["subtract"], "wrong": 2}},
}


def card_of(training=TRAINING, pictures=(), data=None, branch="main", **reports):
    reports = {f"{name}.json": report for name, report in reports.items()}
    facts = CardFacts(data or DataConfig(), TrainConfig(), training, reports, pictures)
    return huggingface_hub.ModelCard(model_card(facts, "me/adder", branch))


def text_of(card) -> str:
    return " ".join(card.text.split())


def results_of(card) -> dict[tuple[str, str], object]:
    """The model-index: {(split, metric): result}."""
    return {(one.dataset_split, one.metric_type): one for one in card.data.eval_results}


# ---- What is claimed ------------------------------------------------------------------------------


def test_a_share_stands_beside_its_count_its_n_and_its_bound():
    card = card_of(evaluation=EVALUATION)
    assert "**9,999 / 10,000 held-out problems exact**, operands from 0 to 9,999" in text_of(card)
    assert "at most 4.74e-04 (95%, one-sided, exact binomial, n = 10,000)" in text_of(card)
    results = results_of(card)
    assert results["test", "exact_match"].metric_value == 0.9999
    assert results["test", "exact_match"].dataset_args["total"] == 10_000
    assert results["test", "error_rate_upper_95"].metric_value == 4.74e-4
    assert set(results) == {("test", "exact_match"), ("test", "error_rate_upper_95")}


def test_without_an_evaluation_the_validation_score_is_given_with_its_bound():
    card = card_of()
    assert "After the last step 998 / 1,000 validation problems were exact" in text_of(card)
    assert "Nothing yet on problems that were never trained on" in text_of(card)
    results = results_of(card)
    assert results["validation", "exact_match"].metric_value == 0.998
    assert 0.002 < results["validation", "error_rate_upper_95"].metric_value < 0.01


@pytest.mark.parametrize(
    ("certificate", "claim"),
    [
        (ALL_PAIRS, "**100,000,000 of 100,000,000 ordered pairs of 0 to 9,999 right**: no sample, all of them"),
        ({**ALL_PAIRS, "wrong": 3}, "**99,999,997 of 100,000,000 ordered pairs of 0 to 9,999 right**"),
        (ALL_LENGTHS, "(base 10) right**: so every sum of two numbers, however long, is"),
        ({**ALL_LENGTHS, "wrong": 8}, "(base 10) right**: so some sums are not"),
        (
            ALL_WORK,
            "so every sum and difference is, however long the numbers. A sum may be of any number of them.",
        ),
        (ALL_WORK, "**1,446 of 1,446 contexts that a token of work on paper can have, for numbers of any length"),
        (ALL_WORK, "Of sums 693 / 693, smallest margin 6.83; of differences 753 / 753, smallest margin 2.25. Each was"),
        (SOME_WORK, "(base 10) right**: so some differences are not. Smallest margin"),
        (SOME_WORK, "of differences 751 / 753, smallest margin 2.25."),
    ],
)
def test_a_certificate_is_shown_as_what_it_counts(certificate, claim):
    card = card_of(certificate=certificate)
    assert claim in text_of(card)
    share = (certificate["checked"] - certificate["wrong"]) / certificate["checked"]
    assert results_of(card)["all", "exact_match"].metric_value == share


def test_a_certificate_that_left_something_out_is_not_shown():
    card = card_of(certificate={**ALL_PAIRS, "checked": 10**8 - 1})
    assert "ordered pairs" not in text_of(card)
    assert ("all", "exact_match") not in results_of(card)


def test_samples_of_lengths_are_a_table():
    row = {"num_digits": 1024, "kind": "carries", "correct": 99, "total": 100, "error_rate_upper_95": 0.0466}
    card = card_of(lengths={"lengths": [row], "trained_digits": 8, "base": 10})
    assert "| 1,024 | carries | 99 / 100 | 4.66e-02 |" in card.text


def test_a_repaired_model_claims_no_score_from_before_its_repair():
    card = card_of(training={**TRAINING, "repairs": [{"steps": 100}, {"steps": 200}]})
    assert "Then 100 and 200 steps more" in text_of(card)
    assert "998" not in card.content
    assert card.data.eval_results is None


def test_only_pictures_that_are_there_are_shown():
    assert "](" not in card_of().text
    card = card_of(pictures=("training_curve.png", "attention_overview.png"))
    assert re.findall(r"!\[[^]]+\]\((.*?)\)", card.text) == ["attention_overview.png", "training_curve.png"]


def test_a_commit_is_named_by_the_strongest_thing_that_is_known():
    def named(**reports):
        return headline(CardFacts(DataConfig(), TrainConfig(), TRAINING, reports))

    evaluation, certificate = {"evaluation.json": EVALUATION}, {"certificate.json": ALL_PAIRS}
    assert named() == "step 1,000: 998 of 1,000 validation problems exact"
    assert named(**evaluation) == "step 1,000: 9,999 of 10,000 held-out problems exact"
    assert (
        named(**evaluation, **certificate) == "step 1,000: 100,000,000 of 100,000,000 ordered pairs of 0 to 9,999 right"
    )


def test_a_card_says_what_is_in_the_folder_about_these_weights_and_nothing_about_others(run_folder):
    model = run_folder / "model"
    before = (model / "README.md").read_text()
    facts = read_card_facts(model)
    assert set(facts.reports) == {"evaluation.json"}
    assert facts.pictures == ("evaluation.png", "training_curve.png")
    assert "held-out problems exact" in before  # evaluate.py wrote it
    report = (model / "evaluation.json").read_bytes()
    write_report(
        model, "evaluation.json", report.replace(facts.reports["evaluation.json"]["model_sha256"].encode(), b"other")
    )
    write_card(model)
    after = (model / "README.md").read_text()
    assert "held-out problems exact" not in after
    assert "evaluation.png" not in after


LENGTHS = {
    "lengths": [{"num_digits": 5, "kind": "carries", "correct": 9, "total": 9, "error_rate_upper_95": 0.3}],
    "trained_digits": 2,
    "base": 10,
    "model_sha256": "abc",
}
WRONG = {  # by report, values that are there and are not what a card can show
    "evaluation": [
        *({key: None} for key in EVALUATION if key != "model_sha256"),
        *({key: "1"} for key in ("correct", "total", "min_logit_margin", "range", "commutes", "runs")),
        *({"total": 0}, {"correct": -1}, {"correct": 10**4000}, {"correct": True}, {"range": [1]}),
        *({"range": [1, None]}, {"range": [-1, 1]}),
        *({"commutes": {"agree": 1}}, {"runs": []}, {"runs": [{"total": "9"}]}, {"runs": [3]}, {"runs": {"total": 9}}),
    ],
    "certificate": [
        *({key: None} for key in ALL_PAIRS if key != "model_sha256"),
        *({"kind": "all"}, {"kind": []}, {"checked": 0, "expected": 0}, {"wrong": math.inf}, {"range": [0, 1, 2]}),
    ],
    "lengths": [
        *({"lengths": None}, {"lengths": [3]}, {"lengths": {}}, {"trained_digits": "2"}),
        *({"lengths": [LENGTHS["lengths"][0] | {key: None}]} for key in LENGTHS["lengths"][0]),
    ],
}


@pytest.mark.parametrize(
    ("name", "change"), [(f"{name}.json", change) for name, changes in WRONG.items() for change in changes]
)
def test_a_report_that_cannot_be_shown_is_left_out_with_a_warning_and_the_others_are_shown(
    tmp_path, caplog, name, change
):
    reports = {"evaluation.json": EVALUATION, "certificate.json": ALL_PAIRS, "lengths.json": LENGTHS}
    for other, report in reports.items():
        (tmp_path / other).write_text(json.dumps(report))
    assert read_reports(tmp_path, "abc") == reports
    assert not caplog.messages
    (tmp_path / name).write_text(json.dumps({**reports.pop(name), **change}))
    assert read_reports(tmp_path, "abc") == reports
    [message] = caplog.messages
    assert message.startswith(f"{tmp_path / name} is ") and len(message.splitlines()) == 1
    model_card(CardFacts(DataConfig(), TrainConfig(), TRAINING, read_reports(tmp_path, "abc")))


def test_a_card_says_what_a_model_of_two_operations_does():
    data = DataConfig(operations=Operations(add=0.5, subtract=0.5))
    counts = {"correct": 7, "total": 9}
    report = {**EVALUATION, "operations": {"add": counts, "subtract": {"correct": 8, "total": 9}}}
    text = model_card(CardFacts(data, TrainConfig(), TRAINING, {"evaluation.json": report}))
    for words in (
        "# A GPT-2 that adds and subtracts",
        "trained from scratch on sums and differences of whole numbers",
        "By operation: sums 7 / 9, differences 8 / 9.",
        "It adds and subtracts two whole numbers. Other operations, fractions and",
        "A hash of the problem puts",
        "Addition and subtraction of integers",
    ):
        assert words in " ".join(text.split())
    alone = model_card(CardFacts(DataConfig(operations=Operations(add=0.0, subtract=1.0)), TrainConfig(), TRAINING))
    assert "Given `1342-879=`, it goes on with the difference." in " ".join(alone.split())


def test_the_card_of_work_on_paper_says_what_it_does_and_no_more():
    text = " ".join(model_card(CardFacts(ALL_FOUR, ON_PAPER, TRAINING, {"lengths.json": WORK_LENGTHS})).split())
    for words in (
        "# A GPT-2 that adds, subtracts, multiplies and divides",
        "it writes its work as on paper, and the sum is read off that.",
        "on sums, differences, products and quotients of whole numbers of up to 2 and 2 digits in sums, 2 and 2 in "
        "differences, 5 and 4 in products and 7 and 5 in quotients, and has 6,327,552 parameters: 1 layer, 4 heads",
        "sees at each token of its work at most five others, by where they stand on the paper, and says one token",
        "problems were drawn: 40% uniform, 30% lengths, 30% carries.",
        "Of the numbers, 30% have mostly the two largest digits. By operation: 25% sums, 25% differences, 25% products",
        "It adds, subtracts, multiplies and divides two whole numbers; a sum may have more of them. Other operations "
        "and fractions are nothing to it.",
        "Operands of more digits than in training take the same steps",
        "| 3 | sums, uniform | 9 / 9 | 1.00e-01 | | 3 | quotients, uniform | 8 / 9 | 2.00e-01 |",
        "`modeling_simple_llm.py` and `tokenization_simple_llm.py`: short",
        "Addition, subtraction, multiplication and division of integers",
    ):
        assert words in text, words
    for words in ("`block` positions", "It has positions for them", "a third operand", "verify.py", "large_digits"):
        assert words not in text
    assert "This is the work on `57*46` that it was trained to write" in text
    more = CardFacts(ALL_FOUR, ON_PAPER, TRAINING, extra_code=("pipeline_simple_llm.py", "verify.py"))
    text = " ".join(model_card(more).split())
    assert "`modeling_simple_llm.py`, `tokenization_simple_llm.py` and `pipeline_simple_llm.py`: short" in text
    assert "In the folder of the model, this line lists by itself" in text
    assert "```sh python3 verify.py ```" in text


@pytest.mark.parametrize(("chosen", "sampled"), [([0, 80], "of the sizes of training"), ([0, 5], "from 0 to 5")])
def test_an_evaluation_of_sizes_by_operation_is_of_no_range(chosen, sampled):
    report = {**EVALUATION, "range": chosen}
    card = card_of(data=ALL_FOUR, evaluation=report)
    assert f"held-out problems exact**, operands {sampled}, drawn" in text_of(card)
    of = sampled.replace("from", "of")
    assert results_of(card)["test", "exact_match"].dataset_name.endswith(f"quotients {of}")


# ---- The template ---------------------------------------------------------------------------------


def recipe_of_the_repository() -> tuple[DataConfig, TrainConfig]:
    return load_configs(REPOSITORY / "data_config.yaml", REPOSITORY / "train_config.yaml", [])


def test_how_the_default_model_was_trained_is_told():
    card = " ".join(model_card(CardFacts(*recipe_of_the_repository(), {**TRAINING, "step": 600})).split())
    assert "600 steps of 128 problems" in card
    assert "After 150 of them each looked at 2 times as many problems, and learned from the 48 with the largest" in card
    assert "a moving mean of those of each step from 300 on" in card


def test_what_has_a_condition_in_the_template_is_in_some_cards_and_not_in_others():
    template = (REPOSITORY / "simple_llm" / "sharing" / "model_card.md").read_text()
    parts = re.findall(r"^\[([^]]+)\] (.*)", template, re.MULTILINE)
    pictures = ("evaluation.png", "training_curve.png", "attention_by_place.png", "attention_overview.png")
    every_length = Model(tokens_per_step=1, attention_window=AttentionWindow(), position_period=2)
    cards = [
        model_card(CardFacts(DataConfig(), TrainConfig(), TRAINING)),
        model_card(CardFacts(DataConfig(numbers=Numbers(reversed=False)), TrainConfig(model=every_length), TRAINING)),
        card_of(training={**TRAINING, "repairs": [{"steps": 1}]}, branch="step-7").content,
        card_of(evaluation=EVALUATION, certificate=ALL_PAIRS, lengths=LENGTHS, pictures=pictures).content,
        card_of(certificate=ALL_LENGTHS).content,
        card_of(training={**TRAINING, "commit": "0123456789ab"}, certificate={**ALL_LENGTHS, "wrong": 8}).content,
        card_of(certificate=ALL_WORK).content,
        model_card(CardFacts(ALL_FOUR, ON_PAPER, TRAINING, extra_code=("verify.py",))),
        card_of(evaluation={**EVALUATION, "operations": {"add": EVALUATION, "subtract": EVALUATION}}).content,
        model_card(CardFacts(DataConfig(), TrainConfig(model=Model(tokens_per_step="all")), TRAINING)),
        model_card(CardFacts(*recipe_of_the_repository(), TRAINING)),
    ]
    words = [" ".join(card.split()) for card in cards]
    assert len(parts) > 20
    for condition, line in parts:
        text = max(re.split(r"{.*?}", line), key=len).strip()
        shown = [text in card for card in words]
        assert any(shown) and not all(shown), (condition, text)
    assert not [card for card in words if re.search(r"[{}]|(?<!!)\[[a-z ,_.]+\] ", card)]


# ---- Three lines ----------------------------------------------------------------------------------


def test_the_three_lines_of_a_card_add_in_a_process_that_has_none_of_this(tmp_path, trained):
    data, folder = make_data_config(99, 10), tmp_path / "some model"
    save_tokenizer(make_tokenizer(data), folder)
    save_model(folder, trained.model, data, make_train_config(), TRAINING)
    write_card(folder)
    [code] = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(code.splitlines()) == 3
    assert "simple_llm" not in code
    assert code.endswith("# the sum is 148\n")
    done = run_python("-I", "-c", code, cwd=folder, HF_HOME=str(tmp_path / "hf"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "99+49=148\n"


@pytest.mark.parametrize("kind", ["all four", "products", "decimal sums"])
def test_the_examples_of_a_card_run_and_are_right_for_every_operation(tmp_path, on_paper, kind):
    folder = Path(shutil.copytree(on_paper(kind), tmp_path / "model"))
    write_card(folder)
    [code] = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    known = load_model(folder).operations
    assert len(code.splitlines()) == 2 + len(known) + (ADDITION in known)  # and one of three numbers
    assert ("add = " in code) == (known == [ADDITION])
    done = fork_stranger(code, cwd=folder).end()
    assert done.exit_code == 0, done.stderr
    told = re.findall(r'"(.*?=)".*# the (.*) is (.*)', code)
    assert [noun for _, noun, _ in told][: len(known)] == [one.noun for one in known]
    assert done.stdout.splitlines() == [problem + right for problem, _, right in told]
    for problem, _, right in told:
        assert problem + right == by_integers(problem)


@pytest.mark.parametrize(("minimum", "maximum"), [(0, 1), (0, 1342), (880, 9999), (7, 7), (10**12, 10**13)])
def test_the_example_is_in_the_range_of_the_model(minimum, maximum):
    data = DataConfig(numbers=Numbers(min=minimum, max=maximum))
    x, y, z = map(int, re.search(r'add\("(\d+)\+(\d+)="\).*the sum is (\d+)', card_of(data=data).text).groups())
    assert minimum <= y <= maximum
    assert minimum <= x <= maximum
    assert x + y == z


def test_the_packages_that_a_card_names_are_those_of_the_requirements():
    [line] = re.findall(r"^pip install (.*)$", card_of().text, re.MULTILINE)
    named = shlex.split(line)
    assert [one for one in (REPOSITORY / "requirements.txt").read_text().splitlines() if one in named] == named
    assert [re.match("[a-z]+", one)[0] for one in named] == ["torch", "transformers"]


def test_the_card_of_a_folder_from_before_names_what_its_code_was_made_with(tmp_path, trained):
    """What is evaluated or uploaded today may have been saved long ago, with code that knows fewer releases."""
    data = make_data_config(99, 10)
    save_tokenizer(make_tokenizer(data), tmp_path)
    save_model(tmp_path, trained.model, data, make_train_config(), TRAINING)
    for changed in (False, True):
        if changed:
            code = tmp_path / "modeling_simple_llm.py"
            code.write_bytes(code.read_bytes() + b"# as it was, in whatever encoding: \xff\n")
        write_card(tmp_path)
        [line] = re.findall(r"^pip install (.*)$", (tmp_path / "README.md").read_text(), re.MULTILINE)
        made_with = [f"torch=={torch.__version__.partition('+')[0]}", f"transformers=={transformers.__version__}"]
        assert shlex.split(line) == (made_with if changed else [*NEEDS])


# ---- Citation -------------------------------------------------------------------------------------


def test_the_citation_names_the_version_and_the_licence():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert citation["license"] == "MIT"
    assert "MIT" in (REPOSITORY / "LICENSE").read_text()
    assert [author["name"] for author in citation["authors"]] == ["The simple-llm authors"]
