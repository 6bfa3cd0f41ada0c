import itertools
import os

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_llm.arithmetic.integers import digit_count
from simple_llm.config.loading import load_configs
from simple_llm.config.settings import DataConfig, to_yaml, TrainConfig, Training
from simple_llm.config.strict_yaml import parse_yaml
from simple_llm.errors import ConfigError
from tests.pipeline import REPOSITORY


def digits_by_hand(value, base):
    digits = []
    while True:
        digits.append(value % base)
        value //= base
        if not value:
            return digits


# ---- What is loaded -------------------------------------------------------------------------------


def test_the_files_of_the_repository_say_what_an_omitted_key_means_but_for_the_recipe():
    """A key that an older file omits goes on to mean what it meant, so a better recipe is one of the file."""
    files = REPOSITORY / "data_config.yaml", REPOSITORY / "train_config.yaml"
    data, train = load_configs(*files, [])
    training, omitted = train.training.model_dump(), TrainConfig().training.model_dump()
    recipe = {key for key in training if training[key] != omitted[key]}
    assert recipe == {
        "max_steps",
        "learning_rate",
        "muon_learning_rate",
        "muon_momentum",
        "restarts",
        "averaging",
        "hard_rows",
    }
    assert (data, train.model_copy(update={"training": Training()})) == (DataConfig(), TrainConfig())


def test_the_defaults_are_those_of_the_design(load):
    data, train = load()
    assert (data.numbers.min, data.numbers.max, data.numbers.base) == (0, 9999, 16)
    assert (data.storage.num_sequences, data.storage.column_delimiter, data.storage.row_delimiter) == (10**5, "|", "\n")
    assert str(data.storage.path) == "../simple-llm-data/sequences.txt"
    assert (train.model.n_layer, train.model.n_head, train.model.n_embd) == (8, 4, 256)
    assert (train.model.position_embedding, train.model.tokens_per_step) == ("block", 2)
    assert str(train.paths.model) == "../simple-llm-data/simple-llm-gpt2"


@pytest.mark.parametrize("path", sorted((REPOSITORY / "runs").glob("**/*.yaml")), ids=lambda path: path.name)
def test_the_configs_of_the_runs_are_valid(path):
    if path.stem.endswith("data"):
        of_this_run = path.with_name(f"{path.stem.removesuffix('_data')}.yaml")
        train_path = of_this_run if of_this_run.exists() else REPOSITORY / "train_config.yaml"
        data, _ = load_configs(path, train_path, ["model.n_positions=100"])
        assert data != DataConfig()
    else:
        any_length = REPOSITORY / "runs/any_length_data.yaml"
        of_this_run = path.with_name(f"{path.stem}_data.yaml")
        data_path = any_length if path.parent.name == "length" else REPOSITORY / "data_config.yaml"
        _, train = load_configs(of_this_run if of_this_run.exists() else data_path, path, [])
        assert train != TrainConfig()


@pytest.mark.parametrize(("written", "meant"), [("1", 1), ("2", 2), ("all", "all")])
def test_tokens_a_step_are_one_two_or_all(load, written, meant):
    _, train = load(f"model.tokens_per_step={written}")
    assert train.model.tokens_per_step == meant


def test_other_tokens_a_step_are_refused_with_those_there_are(errors):
    for value in ("3", "0", "every", "true", "1.0", "null"):
        _, line = errors(f"model.tokens_per_step={value}")
        assert "model.tokens_per_step: expected one of 1, 2, all" in line


def test_a_file_may_name_only_what_differs(load):
    data, train = load(data="numbers: {base: 10}\n", train="training:\n  learning_rate: 1e-4\n")
    assert data == DataConfig(numbers={"base": 10})
    assert train == TrainConfig(training={"learning_rate": 0.0001})


def test_an_override_wins_over_the_file_and_leaves_its_neighbours(load):
    data, train = load(
        *("numbers.base=10", "seed=7", "training.max_steps=5", "hub.repo_id=me/adder", "storage.row_delimiter=';'"),
        data="seed: 3\nnumbers: {base: 12, max: 99}\n",
        train="training: {max_steps: 9, seed: 4}\n",
    )
    assert data == DataConfig(seed=7, numbers={"base": 10, "max": 99}, storage={"row_delimiter": ";"})
    assert train == TrainConfig(training={"max_steps": 5, "seed": 4}, hub={"repo_id": "me/adder"})


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-4", 1e-4), ("1E-4", 1e-4), ("2e-3", 0.002), ("1.5e-3", 0.0015), ("0.5", 0.5), ("1", 1.0)],
)
def test_fault_21_a_rate_may_be_written_with_an_exponent(load, written, value):
    assert load(train=f"training: {{learning_rate: {written}}}\n")[1].training.learning_rate == value
    assert load(f"training.learning_rate={written}")[1].training.learning_rate == value


def test_a_config_does_not_change_after_it_is_made():
    config = DataConfig()
    with pytest.raises(pydantic.ValidationError):
        config.seed = 1
    with pytest.raises(pydantic.ValidationError):
        config.numbers.base = 10


# ---- What follows from the settings ---------------------------------------------------------------


@pytest.mark.parametrize("base", [2, 3, 10, 16, 36])
def test_digits_are_counted_as_by_hand(base):
    assert [digit_count(value, base) for value in range(1500)] == [
        len(digits_by_hand(value, base)) for value in range(1500)
    ]


@pytest.mark.parametrize("power", [1, 7, 64, 100, 1000])
def test_digits_are_counted_around_a_power_of_the_base(power):
    assert [digit_count(10**power + step, 10) for step in (-1, 0, 1)] == [power, power + 1, power + 1]


@pytest.mark.parametrize("maximum", range(12))
@pytest.mark.parametrize("base", [2, 3, 10])
def test_derived_lengths_are_those_of_the_longest_row_there_is(base, maximum):
    rows = [
        "+" + "".join("".join(map(str, digits_by_hand(number, base))) + "+" for number in (x, y, x + y))
        for x, y in itertools.product(range(maximum + 1), repeat=2)
    ]
    config = DataConfig(numbers={"max": maximum, "base": base})
    assert config.row_tokens == max(map(len, rows))
    assert config.operand_digits == max(len(row.split("+")[1]) for row in rows)
    assert config.answer_digits == max(len(row.split("+")[3]) for row in rows)


# ---- Round trip -----------------------------------------------------------------------------------


WORDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=60)
SURPRISING_WORDS = st.sampled_from(["None", "null", "~", "1e5", "1E-3", "010", "on", "No", "1:30", "2024-01-01", "1.5"])
PATHS = (WORDS | SURPRISING_WORDS).filter(
    lambda word: word.strip("./") and (word == "~" or not word.startswith("~"))  # ~name is refused where nobody has it
)
BIG_NUMBERS = st.integers(0, 100) | st.integers(0, 10**120)
SEEDS = st.integers(0, 2**63 - 1)
SHARES = st.floats(0, 1)
DATA_CONFIGS = st.builds(
    lambda seed, numbers, sampling, split, storage: DataConfig(
        seed=seed, numbers=numbers, sampling=sampling, split=split, storage=storage
    ),
    SEEDS,
    st.fixed_dictionaries(
        {"min": BIG_NUMBERS, "max": BIG_NUMBERS, "base": st.integers(2, 36), "reversed": st.booleans()}
    ),
    st.fixed_dictionaries({"uniform": SHARES, "lengths": SHARES, "carries": SHARES}),
    st.fixed_dictionaries({"train": st.floats(1e-300, 0.999), "validation": st.floats(1e-9, 0.5), "seed": SEEDS}),
    st.fixed_dictionaries({"path": PATHS, "column_delimiter": st.sampled_from("|,;:#\t \"'-~+\\")}),
)
TRAIN_CONFIGS = st.builds(
    lambda path, repo_id, rate, stop: TrainConfig(
        paths={"model": path},
        hub={"repo_id": repo_id},
        training={"learning_rate": rate, "stop_after_exact": stop},
    ),
    PATHS,
    st.none() | SURPRISING_WORDS.filter(lambda word: word not in ("~", "1:30")) | st.just("me/adder"),
    st.floats(1e-320, 10),
    st.none() | st.integers(1, 100),
)


@given(DATA_CONFIGS)
def test_a_data_config_written_as_yaml_is_read_back_equal(config):
    assert DataConfig.model_validate(parse_yaml(to_yaml(config))) == config


@given(TRAIN_CONFIGS)
def test_a_train_config_written_as_yaml_is_read_back_equal(config):
    assert TrainConfig.model_validate(parse_yaml(to_yaml(config))) == config


def test_written_configs_load_again_as_files(load):
    data = DataConfig(numbers={"base": 10, "max": 77}, split={"train": 0.7})
    train = TrainConfig(model={"n_layer": 2}, training={"learning_rate": 1e-5})
    assert load(data=to_yaml(data), train=to_yaml(train)) == (data, train)


# ---- What is refused: one setting -----------------------------------------------------------------


# Each wrong in one way: the file it is in, what is written there, and what the message must hold.
WRONG_SETTINGS = [
    ("train", "model: {n_layr: 3}", ["model.n_layr", "unknown key", "did you mean n_layer?"]),
    ("train", "modle: {n_layer: 3}", ["modle", "unknown key", "did you mean model?"]),
    ("data", "numbers: {bse: 3}", ["numbers.bse", "did you mean base?"]),
    ("data", "storage: {qqq: 3}", ["storage.qqq", "unknown key", "path", "num_sequences"]),
    ("data", "model: {n_layer: 3}", ["model", "unknown key"]),  # of the other file
    ("train", "training: {max_steps: many}", ["training.max_steps", "whole number", "at least 1", "'many'"]),
    ("train", "training: {max_steps: 3.0}", ["training.max_steps", "whole number", "3.0"]),
    ("train", "training: {max_steps: '3'}", ["training.max_steps", "whole number", "'3'"]),
    ("train", "training: {max_steps: true}", ["training.max_steps", "whole number", "True"]),
    ("train", "training: {max_steps: null}", ["training.max_steps", "whole number", "nothing"]),
    ("train", "training: {max_steps: -5}", ["training.max_steps", "at least 1", "-5"]),
    ("train", "training: {max_steps: 0}", ["training.max_steps", "at least 1", "0"]),
    ("train", "training: {max_steps: 99999999999}", ["training.max_steps", "at most 1,000,000,000", "99999999999"]),
    ("train", f"training: {{max_steps: {'9' * 4000}}}", ["training.max_steps", "at most 1,000,000,000"]),
    ("train", f"training: {{max_steps: {'9' * 5000}}}", ["4,300 digits"]),
    ("train", "training: {max_steps: 010}", ["'010'", "plain decimal digits"]),
    ("train", "training: {max_steps: [1]}", ["training.max_steps", "[1]"]),
    ("train", "training: {max_steps: {a: 1}}", ["training.max_steps", "whole number"]),
    ("train", "training: {learning_rate: .nan}", ["training.learning_rate", "a number", "nan"]),
    ("train", "training: {learning_rate: .inf}", ["training.learning_rate", "inf"]),
    ("train", "training: {learning_rate: 1e400}", ["training.learning_rate", "inf"]),
    ("train", "training: {learning_rate: 0}", ["training.learning_rate", "above 0"]),
    ("train", "training: {learning_rate: -1e-4}", ["training.learning_rate", "-0.0001"]),
    ("train", "training: {learning_rate: fast}", ["training.learning_rate", "'fast'"]),
    ("train", "training: {compile: 1}", ["training.compile", "true or false", "1"]),
    ("train", "training: {compile: yes}", ["write true or false instead of yes"]),
    ("train", "training: {stop_after_exact: None}", ["write null instead of None"]),
    ("train", "training: {stop_after_exact: 0}", ["training.stop_after_exact", "at least 1", "null"]),
    ("train", "training: {precision: fp16}", ["training.precision", "auto, fp32, bf16", "'fp16'"]),
    ("train", "training: 5", ["training", "expected keys below it", "5"]),
    ("train", "hub: {repo_id: a/b/c}", ["hub.repo_id", "'a/b/c'"]),
    ("train", "model: {dropout: 1.0}", ["model.dropout", "below 1", "1.0"]),
    ("train", "model: {position_embedding: rotary}", ["model.position_embedding", "block", "'rotary'"]),
    ("train", "paths: {model: 3}", ["paths.model", "a path", "3"]),
    ("train", "model: {n_layer: 1, n_layer: 2}", ["key n_layer appears twice"]),
    ("train", "model: {n_layer: 1}\nmodel: {n_layer: 2}", ["line 2", "key model appears twice"]),
    ("train", "model: &m {n_layer: 1}", ["line 1", "anchors"]),
    ("train", "model:\n\tn_layer: 1", ["line 2"]),
    ("data", "numbers: {base: 37}", ["numbers.base", "at most 36", "37"]),
    ("data", "numbers: {base: 1}", ["numbers.base", "at least 2", "1"]),
    ("data", "numbers: {min: -1}", ["numbers.min", "at least 0", "-1"]),
    ("data", "storage: {column_delimiter: ''}", ["storage.column_delimiter", "''"]),
    ("data", "storage: {column_delimiter: '||'}", ["storage.column_delimiter", "'||'"]),
    ("data", "storage: {path: ''}", ["storage.path", "a file"]),
    ("data", "storage: {path: .}", ["storage.path", "a file"]),
    ("data", 'storage: {path: "a\\0b"}', ["storage.path"]),
    ("data", "split: {train: 0}", ["split.train", "above 0"]),
    ("data", "seed: 9223372036854775808", ["seed", "below 9,223,372,036,854,775,808"]),
    ("data", "", ["expected sections", "found nothing"]),
    ("data", "# only a comment\n", ["found nothing"]),
    ("data", "- a\n- b", ["expected sections"]),
    ("data", "just words", ["expected sections", "'just words'"]),
    ("data", b"\x89PNG\r\n\x1a\n\0\0\0", ["not UTF-8"]),
    ("data", b"seed: 1\0", ["character"]),
]


@pytest.mark.parametrize(("file", "content", "parts"), WRONG_SETTINGS, ids=lambda value: repr(value)[:40])
def test_fault_21_a_wrong_setting_is_named_with_file_value_and_remedy(errors, tmp_path, file, content, parts):
    header, line = errors(**{file: content})
    assert header == f"{tmp_path / file}.yaml: 1 bad setting"
    assert [part for part in parts if part not in line] == []
    assert len(line) < 250


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("training.max_steps=many", ["training.max_steps", "whole number", "'many'"]),
        ("training.max_stpes=3", ["training.max_stpes", "did you mean max_steps?"]),
        ("trainig.max_steps=3", ["trainig", "did you mean training?"]),
        ("numbers.base=1", ["numbers.base", "at least 2"]),
        ("training.learning_rate=010", ["training.learning_rate", "plain decimal"]),
        ("training.learning_rate=[", ["training.learning_rate", "line 1"]),
        ("training.learning_rate=*x", ["training.learning_rate", "anchors"]),
        ("training.max_steps", ["training.max_steps", "section.key=value"]),
        ("=3", ["section.key=value"]),
        ("training.=3", ["section.key=value"]),
        ("model.n_layer.x=3", ["section.key=value"]),
        ("numbers=5", ["numbers", "expected keys below it", "5"]),
        ("seed.x=1", ["seed.x", "seed has no keys below it; write seed=value"]),
        ("storage.column_delimiter==", ["storage.column_delimiter", "= has a meaning", "write it in quotes"]),
        ("numbers={base: 10, max: many}", ["numbers.max", "whole number", "'many'"]),
        ("numbers.max=None", ["numbers.max", "write null"]),
        ("model.n_embd=250", ["model.n_embd", "250", "model.n_head = 4"]),
        ("training.restarts={first: 0, every: 9}", ["training.restarts.first", "at least 1"]),
        ("training.even_lengths=1", ["training.even_lengths", "below 1"]),
        ("training.averaging={start: 9, decay: 1}", ["training.averaging.decay", "below 1"]),
        ("training.averaging={start: 0}", ["training.averaging.start", "at least 1"]),
        ("model.attention_window={left: -1, right: 1}", ["model.attention_window.left", "at least 0"]),
    ],
)
def test_fault_21_a_wrong_override_is_named_as_one(errors, override, parts):
    header, line = errors(override)
    assert header == "command line: 1 bad setting"
    assert [part for part in parts if part not in line] == []


@pytest.mark.parametrize("section", ["5", "[max]", ""])
def test_a_section_that_is_none_is_an_error_though_an_override_names_a_key_below_it(errors, tmp_path, section):
    header, line = errors("numbers.max=50", data=f"numbers: {section}\n")
    assert header == f"{tmp_path / 'data'}.yaml: 1 bad setting"
    assert line.startswith("  numbers: expected keys below it")
    header, line = errors("numbers=5", "numbers.max=50")
    assert (header, line.split(",")[0]) == ("command line: 1 bad setting", "  numbers: expected keys below it")


def test_an_override_of_a_section_as_a_whole_goes_before_one_of_a_key_in_it(load):
    numbers = load("numbers={base: 10, max: 7}", "numbers.max=50", data="numbers: 5\n")[0].numbers
    assert (numbers.base, numbers.max) == (10, 50)


# ---- All errors at once ---------------------------------------------------------------------------


def test_fault_21_every_bad_setting_is_named_at_once(errors, tmp_path):
    lines = errors(
        *("training.seed=x", "nonsense", "hub.push=true"),
        data="numbers: {base: 99, max: many}\nstorge: {}\nsplit: {train: 2}\n",
        train="model: {n_layr: 3, n_embd: 250}\ntraining: {max_steps: many, batch_size: -1}\n",
    )
    found, place = {}, None
    for line in lines:
        key = line.split(":")[0]
        if line.startswith("  "):
            found[place].add(key.strip())
        else:
            place = key
            found[place] = set()
    assert found == {
        f"{tmp_path}/data.yaml": {"numbers.base", "numbers.max", "storge", "split.train"},
        f"{tmp_path}/train.yaml": {"model.n_layr", "training.max_steps", "training.batch_size", "model.n_embd"},
        "command line": {"training.seed", "nonsense", "hub.repo_id"},
    }


def test_the_count_in_the_header_is_that_of_the_lines(errors):
    header, *lines = errors(train="model: {a: 1, b: 2, c: 3}\n")
    assert header.endswith(": 3 bad settings")
    assert len(lines) == 3


@pytest.mark.parametrize("data", ["numbers: {max: many}\n", "numbers: 5\n", "seed: [\n", ""])
def test_a_default_in_the_place_of_a_bad_setting_is_not_blamed(errors, data):
    # A table of 4 rows fits sums of 3 digits; it would be too short for the default numbers.max.
    lines = errors(data=data, train="model: {n_positions: 4}\n")
    assert not any("n_positions" in line for line in lines)


def test_a_conflict_within_one_file_is_named_though_the_other_cannot_be_read(errors):
    lines = errors(data="seed: [\n", train="model: {n_embd: 250}\n")
    assert any("model.n_embd" in line for line in lines)


# ---- Files that are no config ---------------------------------------------------------------------


def test_a_missing_file_is_named_and_so_is_the_way_out(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_configs(tmp_path / "no.yaml", tmp_path / "none.yaml", [])
    for name in ("no.yaml", "none.yaml"):
        assert f"{tmp_path / name}: 1 bad setting\n  not found; run in the repository's folder" in str(caught.value)


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_configs(tmp_path, REPOSITORY / "train_config.yaml", [])


@pytest.mark.parametrize("override", ["x" * 10**5, "model.n_layer=" + "9" * 10**5, "a\nb=1", "model.\x1b[2J=1"])
def test_fault_21_an_override_that_means_harm_is_shown_in_one_short_line(errors, override):
    header, line = errors(override)
    assert header == "command line: 1 bad setting"
    assert line.isprintable() and len(line) < 250


HARM = ['"a\\nb": 1', '"\\e[2J": 1', "? " + "k" * 20_000, "model: {" + "n" * 20_000 + ": 1}", "{" * 5000, "- " * 9000]


@pytest.mark.parametrize("text", HARM, ids=lambda text: text[:12])
def test_fault_21_keys_and_brackets_that_mean_harm_are_shown_in_one_short_line(errors, text):
    _, line = errors(train=text)
    assert line.isprintable() and len(line) < 250


def test_fault_21_of_thousands_of_bad_settings_the_first_are_shown_and_all_are_counted(errors):
    header, *lines = errors(train="model:\n" + "".join(f"  k{number}: 1\n" for number in range(2000)))
    assert header.endswith(": 2000 bad settings")
    assert lines[-1] == "  and 1,960 more"
    assert len(lines) == 41


def test_a_file_is_measured_in_bytes_and_not_in_characters(load, errors):
    load(train="hub: {push: false}  # " + "a" * 31_900)
    _, line = errors(train="hub: {push: false}  # " + "\u00e9" * 16_000)
    assert "larger than 32,000 bytes" in line


def test_fault_21_a_gigabyte_is_refused_without_reading_it(tmp_path):
    huge = tmp_path / "huge.yaml"
    huge.touch()
    os.truncate(huge, 2**30)  # sparse: takes no disk
    with pytest.raises(ConfigError, match="larger than"):
        load_configs(huge, REPOSITORY / "train_config.yaml", [])
