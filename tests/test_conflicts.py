"""Settings that are fine one by one and cannot go together."""

import pytest
import torch

from simple_llm.config.conflicts import MOST_WEIGHTS
from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.model.network import model_config
from tests.pipeline import run_script, write_configs
from tests.tiny_models import make_tokenizer

pytestmark = pytest.mark.library


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["model.n_embd=250"], ["model.n_embd", "250", "model.n_head = 4"]),
        (["model.n_head=3"], ["model.n_embd", "256", "model.n_head = 3"]),
        (["numbers.min=10", "numbers.max=9"], ["numbers.min", "10", "numbers.max = 9"]),
        (["sampling={uniform: 0.5, lengths: 0.2, carries: 0.2}"], ["sampling.uniform", "add up to 1", "0.9"]),
        (["split.train=0.9", "split.validation=0.1"], ["split.validation", "test side"]),
        (["split.train=0.95", "split.validation=0.1"], ["split.validation", "test side"]),
        (["storage.column_delimiter=A"], ["storage.column_delimiter", "'A'"]),
        (["storage.row_delimiter='0'"], ["storage.row_delimiter", "'0'"]),
        (["storage.column_delimiter=§"], ["storage.column_delimiter", "'§'"]),
        (['storage.column_delimiter="\\0"'], ["storage.column_delimiter", "cannot separate"]),
        (['storage.row_delimiter="\\0"'], ["storage.row_delimiter", "cannot separate"]),
        (["storage.row_delimiter='|'"], ["storage.column_delimiter", "must differ from storage.row_delimiter"]),
        (["training.batch_size=10", "training.accumulation_steps=4"], ["training.batch_size", "10", "= 4"]),
        (["tokenizer.unk_token=<|pad|>"], ["tokenizer.unk_token", "must differ"]),
        (["training.restarts={first: 700, every: 300}"], ["training.restarts", "300", "training.max_steps=1300"]),
        (["training.restarts={first: 20, every: 108}"], ["training.restarts", "20", "training.warmup_steps = 20"]),
        (["training.averaging={start: 1100}"], ["training.averaging", "start: 1100", "end after 1100 steps"]),
        (["training.hard_rows={start: 9, of: 2, keep: 2}"], ["training.hard_rows", "keep: 2", "of: 2"]),
        (
            ["training.hard_rows={start: 9, of: 2, keep: 0.1}", "training.accumulation_steps=16"],
            ["training.hard_rows", "keep: 0.1", "13 rows", "training.accumulation_steps = 16"],
        ),
        (
            ["training.hard_rows={start: 9, of: 2, keep: 0.4}", "training.even_lengths=0.2"],
            ["training.hard_rows", "training.even_lengths = 0.2"],
        ),
        (["hub.push=true"], ["hub.repo_id", "hub.push is true"]),
        (["hub.every=100"], ["hub.every", "hub.push is false"]),
        (["hub.push=true", "hub.repo_id=me/adder", "hub.every=150"], ["hub.every", "150", "training.eval_every = 100"]),
        (["numbers.reversed=false"], ["model.tokens_per_step", "numbers.reversed is false"]),
        (["model.position_embedding=none", "model.max_position_offset=3"], ["model.max_position_offset"]),
    ],
)
def test_fault_10_settings_that_cannot_go_together_are_named(errors, overrides, parts):
    header, line = errors(*overrides)
    assert header == "command line: 1 bad setting"
    assert [part for part in parts if part not in line] == []


COLUMNS = ["model.scratchpad=columns", "model.n_layer=1", "model.tokens_per_step=1"]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model.tokens_per_step=2", "2 with model.scratchpad = columns: each token of the work follows from the one "),
        ("model.tokens_per_step=all", "all with model.scratchpad = columns"),
        ("model.attention_window={left: 0, right: 1}", "left=0 right=1 with model.scratchpad = columns"),
        ("model.position_period=3", "3 with model.scratchpad = columns: no position"),
        ("model.position_embedding=learned", "learned with model.scratchpad = columns"),
        ("model.max_position_offset=2", "2 with model.scratchpad = columns: no position"),
        ("model.dropout=0.1", "0.1 with model.scratchpad = columns: there is one right thing to say"),
        ("model.n_layer=2", "2 with model.scratchpad = columns: the five tokens in view"),
        ("model.n_positions=5", "5 with model.scratchpad = columns: there are 6 kinds of token; set at least 6"),
        ("numbers.reversed=false", "false with model.scratchpad = columns: work begins at the lowest digits"),
        ("model.n_embd=250", "250 is not a multiple of model.n_head = 4"),
        ("model.n_inner=1000000", "at most 1,000,000,000"),
    ],
)
def test_fault_10_what_does_not_go_with_work_on_paper_is_named_and_the_remedy_works(load, errors, override, told):
    key = override.partition("=")[0]
    settings = [one for one in COLUMNS if not one.startswith(f"{key}=")]
    settings += ["model.n_embd=1024"] if key == "model.n_inner" else []
    header, line = errors(*settings, override)
    assert header == "command line: 1 bad setting"
    assert told in line and (line.startswith(f"  {key}: ") or key in line)
    if "; set model." in line or "; set numbers." in line:
        load(*settings, line.rpartition("; set ")[2])


def test_work_on_paper_goes_with_several_numbers_sizes_and_every_operation(load):
    shares = "operations={add: 0.25, subtract: 0.25, multiply: 0.25, divide: 0.25}"
    data, _ = load(*COLUMNS, shares, "numbers.operands=9", "numbers.sizes={multiply: [5, 4], divide: [7, 5]}")
    assert [data.numbers.bounds(one) for one in data.operations.known[1:3]] == [
        ((0, 9999), (0, 9999)),
        ((0, 16**5 - 1), (0, 16**4 - 1)),
    ]
    assert data.numbers.bounds(data.operations.known[3]) == ((0, 16**7 - 1), (1, 16**5 - 1))
    load(*COLUMNS, "model.n_positions=6")


@pytest.mark.parametrize(
    ("overrides", "told", "remedies"),
    [
        (
            ["numbers.operands=3"],
            "numbers.operands: 3 with model.scratchpad = none: without one there are two numbers",
            [["numbers.operands=2"], COLUMNS],
        ),
        (
            ["operations={add: 0.0, multiply: 1.0}", "model.tokens_per_step=all"],
            "model.tokens_per_step: a digit of a product depends on more digits than that lets it see",
            [["model.tokens_per_step=1"], ["operations={add: 1.0, multiply: 0.0}"]],
        ),
        (
            [
                "operations={add: 0.5, divide: 0.5}",
                "model.attention_window={left: 0, right: 1}",
                "model.tokens_per_step=1",
            ],
            "model.attention_window: a digit of a quotient depends on more digits than that lets it see",
            [["model.attention_window=null"], ["operations={add: 1.0, divide: 0.0}"]],
        ),
        (
            ["numbers.min=1000", "numbers.base=10", "numbers.sizes={multiply: [4, 3]}"],
            "numbers.sizes: multiply: no number of 3 digits in base 10 is as large as numbers.min = 1000",
            [["numbers.min=0"], ["numbers.sizes={multiply: [4, 4]}"]],
        ),
        (
            ["operations={add: 0.0, divide: 1.0}", "storage.column_delimiter='/'"],
            "storage.column_delimiter: '/' stands in the rows of an operation; use '|'",
            [["storage.column_delimiter='|'"]],
        ),
        (
            ["operations={add: 0.5, multiply: 0.5}", "storage.row_delimiter='*'"],
            "storage.row_delimiter: '*' stands in the rows of an operation",
            [["storage.row_delimiter=';'"]],
        ),
    ],
)
def test_fault_10_what_an_operation_does_not_go_with_is_named_and_the_remedies_work(
    load, errors, overrides, told, remedies
):
    _, line, *_ = errors(*overrides)
    assert line.startswith(f"  {told}")
    for remedy in remedies:
        load(*overrides, *remedy)


@pytest.mark.parametrize("size", ["3", "[1]", "[0, 1]", "[1, 2, 3]", "[a, 1]", "[1.5, 1]", "[1, 1001]"])
def test_fault_10_sizes_of_numbers_that_are_none_are_told_what_is_expected(errors, size):
    header, line = errors(f"numbers.sizes={{multiply: {size}}}")
    assert header == "command line: 1 bad setting"
    expected = "  numbers.sizes.multiply: expected two numbers of digits from 1 to 1,000 such as [4, 3], or null, got "
    assert line.startswith(expected)


def test_fault_10_sizes_of_what_is_no_operation_and_too_many_operands_are_refused(errors):
    assert (
        "numbers.sizes.sum: unknown key; known are add, subtract, multiply, divide"
        in errors("numbers.sizes={sum: [1, 1]}")[1]
    )
    for count in (1, 10):
        assert (
            "numbers.operands: expected a whole number, at least 2, at most 9" in errors(f"numbers.operands={count}")[1]
        )
    assert "sampling.large_digits: expected a number, at least 0, at most 1" in errors("sampling.large_digits=1.5")[1]
    assert "model.scratchpad: expected one of none, columns" in errors("model.scratchpad=paper")[1]


def test_sampling_shares_that_add_up_to_one_but_for_rounding_are_taken(load):
    assert load("sampling.uniform=0.1", "sampling.lengths=0.2", "sampling.carries=0.7")


@pytest.mark.parametrize("maximum", [0, 4, 5, 9, 49, 50, 99, 499, 500])
@pytest.mark.parametrize("kind", ["block", "learned"])
def test_fault_10_the_position_table_is_refused_when_it_is_one_row_too_short(load, errors, kind, maximum):
    # The last position of a row, or of its longest number: the sum of the largest operands.
    longest = len(str(2 * maximum)) if kind == "block" else len(f"+{maximum}+{maximum}+{2 * maximum}+") - 1
    settings = [f"numbers.max={maximum}", "numbers.base=10", f"model.position_embedding={kind}"]
    load(*settings, f"model.n_positions={longest + 1}")
    if longest + 1 > 2:  # a table of one row is refused for itself
        _, line = errors(*settings, f"model.n_positions={longest}")
        assert "model.n_positions" in line
        assert f"at least {longest + 1}" in line


def test_fault_10_an_offset_of_the_positions_needs_as_many_rows_more(load, errors):
    settings = ["numbers.max=99", "numbers.base=10", "model.max_position_offset=5"]
    load(*settings, "model.n_positions=9")  # 1 to 3 digits, shifted by 5: position 8 is the last
    assert "at least 9" in errors(*settings, "model.n_positions=8")[1]


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.n_embd=100000"],
        ["model.n_layer=1000", "model.n_embd=1024"],
        ["model.n_positions=1000000", "model.n_embd=1024"],
        ["model.n_layer=1000", "model.n_embd=100000", "model.n_positions=1000000"],
        ["model.n_inner=1000000", "model.n_embd=1024"],
    ],
)
def test_fault_10_sizes_that_no_machine_here_could_hold_are_named_together(errors, overrides):
    header, line = errors(*overrides)
    assert header == "command line: 1 bad setting"
    assert all(override.partition("=")[2] in line for override in overrides)
    assert "at most 1,000,000,000" in line


def test_the_largest_models_are_counted_as_torch_counts_them(load, errors):
    for n_layer, n_embd in ((1, 9000), (20, 2040), (100, 900)):  # just below a billion, but for embeddings and biases
        data, train = load(f"model.n_layer={n_layer}", f"model.n_embd={n_embd}")
        with torch.device("meta"):
            model = SimpleLLMForCausalLM(model_config(train, make_tokenizer(data)))
        assert 0.95 * MOST_WEIGHTS < model.num_parameters() < 1.01 * MOST_WEIGHTS
        errors(f"model.n_layer={n_layer + 1 + n_layer // 50}", f"model.n_embd={n_embd + 136}")


def test_fault_10_the_real_script_ends_with_2_at_its_start(tmp_path):
    write_configs(tmp_path)
    done = run_script("trainer.py", "model.n_embd=250", "model.n_head=4", "numbers.max=99999999", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "command line: 2 bad settings",
        "  model.n_embd: 250 is not a multiple of model.n_head = 4",
        "  model.n_positions: 8 is too short a position table for answers to numbers up to 99999999 in base 10; set at "
        "least 10",
    ]
    assert not (tmp_path / "model").exists()
