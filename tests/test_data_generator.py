import hashlib
import itertools
import json
import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tqdm import tqdm

import data_generator
from simple_llm.config.settings import DataConfig, Operations, Sampling, Split
from simple_llm.data.problems import from_integers
from simple_llm.data.split import split_sides
from simple_llm.errors import Interrupted, UsageError
from simple_llm.files.manifest import SELF
from tests.pipeline import run_script, write_configs

MANIFEST = "sequences.txt.manifest.json"


def generate(folder, *arguments, **environment):
    return run_script("data_generator.py", *arguments, cwd=folder, **environment)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A folder with 5,000 rows in base 16, and how the script ended, which told what it imported."""
    folder = tmp_path_factory.mktemp("generated")
    data = {
        "numbers": {"max": 9999, "base": 16},
        "sampling": {"uniform": 0.6, "lengths": 0.2, "carries": 0.2},
        "storage": {"path": "sequences.txt", "num_sequences": 5000},
    }
    write_configs(folder, data)
    return folder, generate(folder, "--json", PYTHONPROFILEIMPORTTIME="1")


@pytest.fixture
def small(tmp_path):
    """A config of 50 rows."""
    return DataConfig(
        numbers={"max": 99, "base": 10}, storage={"path": tmp_path / "sequences.txt", "num_sequences": 50}
    )


def test_the_file_holds_as_many_right_rows_as_asked_for_each_once_and_none_of_the_test_side(generated):
    folder, done = generated
    assert done.returncode == 0, done.stderr
    rows = (folder / "sequences.txt").read_bytes().decode("ascii").splitlines(keepends=True)
    problems = [tuple(int(number[::-1], 16) for number in row.removesuffix("\n").split("|")) for row in rows]
    assert len(set(problems)) == len(problems) == 5000
    for row, (x, y, z) in zip(rows, problems, strict=True):
        assert row == "|".join(f"{number:X}"[::-1] for number in (x, y, z)) + "\n"
        assert x + y == z
        assert max(x, y) <= 9999
    sides = split_sides(from_integers([problem[:2] for problem in problems], 10, 4), Split())
    assert set(sides.tolist()) == {0, 1}


def test_the_manifest_and_the_json_line_describe_the_file(generated):
    folder, done = generated
    told = json.loads((folder / MANIFEST).read_bytes())
    assert {**json.loads(done.stdout.splitlines()[-1]), SELF: told[SELF]} == {"path": "sequences.txt", **told}
    content = (folder / "sequences.txt").read_bytes()
    assert (told["rows"], told["bytes"], told["sha256"]) == (5000, len(content), hashlib.sha256(content).hexdigest())
    assert told["asked"] == {"uniform": 3000, "lengths": 1000, "carries": 1000}
    assert sum(told["drawn"].values()) == 5000
    assert told["config"]["numbers"]["base"] == 16


def test_rows_are_drawn_without_the_seconds_that_torch_takes_to_import(generated):
    imported = {line.rpartition("|")[2].strip() for line in generated[1].stderr.splitlines()}
    assert "numpy" in imported and "torch" not in imported


def test_a_valid_file_is_used_again_and_anything_else_is_made_anew_with_the_same_bytes(generated):
    folder, _ = generated
    path, content = folder / "sequences.txt", (folder / "sequences.txt").read_bytes()
    made = path.stat().st_mtime_ns, path.stat().st_ino
    again = generate(folder, "--json")
    assert (again.returncode, (path.stat().st_mtime_ns, path.stat().st_ino)) == (0, made)
    assert "is up to date" in again.stdout
    assert json.loads(again.stdout.splitlines()[-1])["rows"] == 5000

    path.write_bytes(content[:-5])
    mended = generate(folder)
    assert (mended.returncode, path.read_bytes()) == (0, content)
    assert "wrote 5,000 rows" in mended.stdout

    inode = path.stat().st_ino
    forced = generate(folder, "--force")
    assert (forced.returncode, path.read_bytes()) == (0, content)
    assert path.stat().st_ino != inode


def test_more_rows_than_there_are_is_a_users_mistake_that_names_both_numbers(tmp_path):
    write_configs(tmp_path, data={"numbers": {"max": 20}, "storage": {"path": "s.txt", "num_sequences": 500}})
    pairs = list(itertools.product(range(21), repeat=2))
    available = int((split_sides(from_integers(pairs, 10, 2), Split()) != 2).sum())
    done = generate(tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "500 rows asked for" in done.stderr
    assert f"only {available:,} training and validation pairs" in done.stderr
    assert not (tmp_path / "s.txt").exists()


def test_a_path_that_cannot_be_written_is_the_environments_fault(tmp_path):
    write_configs(tmp_path, data={"storage": {"path": "train_config.yaml/s.txt", "num_sequences": 10}})
    done = generate(tmp_path)
    assert (done.returncode, done.stdout) == (5, "")
    assert "train_config.yaml" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["sequences.txt", MANIFEST])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("elsewhere", path)], ids=["pipe", "link"])
def test_what_is_no_ordinary_file_is_named_before_a_row_is_drawn(tmp_path, call_script, monkeypatch, name, make):
    write_configs(tmp_path)
    make(tmp_path / name)
    monkeypatch.setattr("simple_llm.data.sampling.draw_unique", lambda *arguments: pytest.fail("drew rows"))
    done = call_script("data_generator.py", cwd=tmp_path)
    assert (done.exit_code, done.stdout, done.stderr) == (5, "", f"{name}: no ordinary file\n")
    assert not (tmp_path / name).is_file()


@pytest.mark.parametrize("overrides", [{}, {"numbers": {"base": 2}}, {"numbers": {"max": 10**50}}])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path, overrides):
    contents = []
    for name, seed in (("one", 5), ("same", 5), ("other", 6)):
        config = DataConfig(**overrides, seed=seed, storage={"path": tmp_path / name, "num_sequences": 500})
        data_generator.write_problems(config, data_generator.draw_problems(config))
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    assert set(contents[0].split()) != set(contents[2].split())


@pytest.mark.parametrize(
    ("numbers", "sha256"),
    [({}, "82846f7c643874dd"), ({"max": 10**50, "base": 10}, "9de3a1904ff6b016")],
    ids=["default", "51-digits"],
)
def test_this_version_of_the_generator_writes_these_bytes(tmp_path, numbers, sha256):
    """Whoever changes them raises GENERATOR_VERSION, so that a file of the old kind is not taken for one of the new."""
    config = DataConfig(numbers=numbers, storage={"path": tmp_path / "sequences.txt", "num_sequences": 5000})
    manifest = data_generator.write_problems(config, data_generator.draw_problems(config))
    assert (manifest.generator_version, manifest.sha256[:16]) == (3, sha256)


@given(st.integers(1, 10**6), st.integers(0, 100), st.integers(0, 100))
def test_shares_become_whole_rows_that_add_up(num_rows, first, second):
    low, high = sorted((first, second))
    percent = {"uniform": low, "lengths": high - low, "carries": 100 - high}
    rows = data_generator.rows_by_stratum(Sampling(**{name: part / 100 for name, part in percent.items()}), num_rows)
    assert sum(rows.values()) == num_rows
    for name, count in rows.items():
        assert count >= 0
        assert abs(count - num_rows * percent[name] / 100) <= 1
        assert count == 0 or percent[name] > 0


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_fault_04_a_signal_while_writing_leaves_no_file(small, tmp_path, monkeypatch, number, exit_code):
    class InterruptedBar(tqdm):
        def update(self, n=1):
            os.kill(os.getpid(), number)
            return super().update(n)

    monkeypatch.setattr(data_generator, "progress_bar", InterruptedBar)
    with pytest.raises(Interrupted, match="was not written") as caught:
        data_generator.write_problems(small, data_generator.draw_problems(small))
    assert caught.value.exit_code == exit_code
    assert os.listdir(tmp_path) == []


def test_an_operation_whose_share_is_less_than_a_row_is_refused(small):
    config = small.model_copy(update={"operations": Operations(add=0.999, subtract=0.001)})
    with pytest.raises(UsageError, match=r"operations\.subtract: of 50 rows this share is not one; set it to 0 or"):
        data_generator.draw_problems(config)


def test_other_delimiters_and_the_other_order_of_digits_are_written(small):
    config = small.model_copy(
        update={
            "numbers": small.numbers.model_copy(update={"reversed": False}),
            "storage": small.storage.model_copy(update={"column_delimiter": "+", "row_delimiter": ";"}),
        }
    )
    data_generator.write_problems(config, data_generator.draw_problems(config))
    *rows, rest = config.storage.path.read_text().split(";")
    assert (len(rows), rest) == (50, "")
    for row in rows:
        x, y, z = row.split("+")
        assert str(int(x) + int(y)) == z
