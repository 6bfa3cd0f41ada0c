import json
import os
import shutil

import pytest
import transformers

import tokenizer as tokenizer_script
from simple_llm.config.settings import DataConfig, TrainConfig
from simple_llm.errors import ArtefactError
from tests.pipeline import run_script, write_configs

pytestmark = pytest.mark.library

FILES = {"tokenizer.json", "tokenizer_config.json", "tokenization_simple_llm.py"}


@pytest.fixture(scope="module")
def dataset_folder(tmp_path_factory):
    """A folder with both configs and 2,000 rows of two decimal digits."""
    folder = tmp_path_factory.mktemp("dataset")
    write_configs(folder)
    done = run_script("data_generator.py", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def folder(dataset_folder, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(dataset_folder, tmp_path / "run")


@pytest.fixture
def tokenize(call_script, folder):
    """Run tokenizer.py in the folder."""
    return lambda *arguments: call_script("tokenizer.py", *arguments, cwd=folder)


def vocabulary_of(folder):
    return json.loads((folder / "tokenizer.json").read_bytes())["model"]["vocab"]


def test_the_tokenizer_is_written_and_described(tokenize, folder):
    done = tokenize("--json")
    assert done.exit_code == 0, done.stderr
    assert {name for name in os.listdir(folder / "model") if not name.startswith(".")} == FILES
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["path"] == "model"
    assert set(told["files"]) == FILES
    assert told["vocabulary"] == vocabulary_of(folder / "model")
    assert set(told["vocabulary"]) == {"<|pad|>", "<|unk|>", "+", *"0123456789"}


def test_a_valid_tokenizer_is_used_again(tokenize, folder):
    tokenize()
    made = (folder / "model" / "tokenizer.json").stat().st_ino
    assert "is up to date: 13 tokens" in tokenize().stdout
    assert (folder / "model" / "tokenizer.json").stat().st_ino == made


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "damage", ["missing", "", "{}", "[]", "null", "3", "\0", "{", "half", "other digit", "{'base': 1}"]
)
def test_a_damaged_tokenizer_is_written_anew(tokenize, folder, name, damage):
    tokenize()
    path = folder / "model" / name
    content = path.read_text()
    if damage == "missing":
        path.unlink()
    elif damage == "half":
        path.write_text(content[: len(content) // 2])
    elif damage == "other digit":
        path.write_text(content.replace('"5"', '"x"').replace('"base": 10', '"base": 9'))
    else:
        path.write_text(damage.replace("'", '"'))
    done = tokenize()
    assert (done.exit_code, "wrote a tokenizer" in done.stdout) == (0, True), done.stderr
    assert path.read_text() == content


def test_the_folder_loads_with_the_transformers_library_and_speaks_decimal(tokenize, folder, tmp_path, monkeypatch):
    tokenize()
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    loaded = transformers.AutoTokenizer.from_pretrained(folder / "model", trust_remote_code=True)
    ids = loaded("13+87=")["input_ids"]
    assert loaded.convert_ids_to_tokens(ids) == list("+31+78+")
    assert loaded.decode(ids) == "13+87="


# ---- IDs ------------------------------------------------------------------------------------------


def train(rows, base, is_reversed=True):
    config = DataConfig(numbers={"base": base, "reversed": is_reversed})
    return tokenizer_script.train_tokenizer(iter(rows), config, TrainConfig())


@pytest.mark.parametrize("base", [2, 10, 16, 36])
def test_token_ids_depend_on_the_base_alone(base):
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:base]
    vocabularies = [
        train(rows, base).get_vocab()
        for rows in ([], ["+0+0+0+"] * 50, [f"+{digits[::-1]}+{digits}+1+"], ["+1+1+01+"] * 3 + ["+0+1+1+"])
    ]
    expected = {token: number for number, token in enumerate(["<|pad|>", "<|unk|>", "+", *digits])}
    assert vocabularies == [expected] * 4


@pytest.mark.parametrize("row", ["+1|2+3+", "+1+2+3+\n", "+a+1+2+", "+1 +1+2+", "+A+1+B+", "+٣+1+4+"])
def test_rows_that_hold_something_else_are_refused(row):
    with pytest.raises(ArtefactError, match="no digits of base 10"):
        train(["+1+1+2+", row], 10)


def test_the_rows_read_are_those_of_the_file_over_all_its_blocks(tmp_path):
    rows = [f"{n}|{n % 7}|{n}" for n in range(100_000)]
    path = tmp_path / "rows.txt"
    path.write_text("".join(row + ";" for row in rows))
    assert path.stat().st_size > 2**20
    config = DataConfig(storage={"path": path, "row_delimiter": ";"})
    assert list(tokenizer_script.rows(config, len(rows))) == ["+" + row.replace("|", "+") + "+" for row in rows]


# ---- What is refused ------------------------------------------------------------------------------


def refusal(tokenize, folder, *arguments):
    done = tokenize(*arguments)
    assert (done.exit_code, done.stdout) == (3, "")
    assert not (folder / "model" / "tokenizer.json").exists()
    return done.stderr


def test_without_a_dataset_the_script_to_run_is_named(tokenize, folder):
    (folder / "sequences.txt").unlink()
    assert "sequences.txt not found; run `python3 data_generator.py`" in refusal(tokenize, folder)
    shutil.rmtree(folder / "model", ignore_errors=True)


def test_fault_08_a_damaged_dataset_is_refused_by_its_row(tokenize, folder):
    path = folder / "sequences.txt"
    content = path.read_bytes()
    path.write_bytes(content[:-4])
    assert "row 2000: " in refusal(tokenize, folder)
    path.write_bytes(content[:5] + b"x" + content[6:])
    assert "row 1: " in refusal(tokenize, folder)
    path.write_bytes(content + b"1|1|2\n")
    assert "row 2001: expected the end of the file, found 1 more rows" in refusal(tokenize, folder)


def test_a_dataset_without_its_manifest_or_of_another_config_is_refused(tokenize, folder):
    assert "numbers.base: 10 there, 16 here" in refusal(tokenize, folder, "numbers.base=16")
    (folder / "sequences.txt.manifest.json").write_text("{}")
    assert "sequences.txt.manifest.json is damaged" in refusal(tokenize, folder)
    (folder / "sequences.txt.manifest.json").unlink()
    assert "sequences.txt.manifest.json not found" in refusal(tokenize, folder)


@pytest.mark.parametrize("trace", ["manifest.json", "checkpoints/step-5/manifest.json"])
def test_a_tokenizer_that_a_model_was_trained_with_is_replaced_only_when_asked(tokenize, folder, trace):
    tokenize()
    (folder / "model" / trace).parent.mkdir(parents=True, exist_ok=True)
    (folder / "model" / trace).write_text("{}")
    assert tokenize().exit_code == 0  # the same one: nothing to replace
    before = vocabulary_of(folder / "model")
    other = tokenize("tokenizer.pad_token=<|other|>")
    assert (other.exit_code, other.stdout) == (3, "")
    assert "holds a model that was trained with another tokenizer" in other.stderr
    assert "--fresh" in other.stderr
    assert vocabulary_of(folder / "model") == before
    fresh = tokenize("--fresh", "tokenizer.pad_token=<|other|>")
    assert fresh.exit_code == 0
    assert "<|other|>" in vocabulary_of(folder / "model")
