"""The same script started several times at once in one folder: each ends as if alone, or names who holds the folder."""

import fcntl
import json
import os
import shutil
import threading
from contextlib import contextmanager

import pytest

import tokenizer as tokenizer_script
from simple_llm.errors import EnvironmentFault
from simple_llm.files import writing
from simple_llm.files.names import ATTENTION, CARD, EVALUATION, TOKENIZER
from simple_llm.model.tokenizer_files import load_tokenizer, save_tokenizer, tokenizer_sha256
from simple_llm.sharing import model_card
from tests.forked import fork_script
from tests.tiny_models import make_data_config, make_tokenizer

pytestmark = pytest.mark.library


def litter(folder):
    return [path.name for path in folder.rglob(".*") if path.match(".tmp*") or path.match(".?*.lock")]


@pytest.mark.parametrize("arguments", [("tokenizer.py",), ("data_generator.py",), ("data_generator.py", "--force")])
def test_fault_39_scripts_that_are_started_together_end_as_if_alone(run_folder, arguments):
    rows = (run_folder / "sequences.txt").read_bytes()
    shutil.rmtree(run_folder / "model")
    if arguments == ("data_generator.py",):
        (run_folder / "sequences.txt.manifest.json").unlink()
        (run_folder / "sequences.txt").unlink()  # rows without a manifest are somebody else's
    ended = [one.end() for one in [fork_script(*arguments, cwd=run_folder) for _ in range(4)]]
    assert [one.exit_code for one in ended] == [0] * 4, [one.stderr for one in ended]
    assert litter(run_folder) == []
    assert (run_folder / "sequences.txt").read_bytes() == rows
    assert (run_folder / "sequences.txt.manifest.json").exists()
    if arguments == ("tokenizer.py",):
        assert len(load_tokenizer(run_folder / "model")) == 19
        assert sum("wrote a tokenizer" in one.stdout for one in ended) == 1
    elif "--force" not in arguments:
        assert sum("wrote 1,000 rows" in one.stdout for one in ended) == 1


def test_fault_39_a_stage_that_somebody_fills_is_not_removed_and_that_of_a_killed_one_is(tmp_path):
    for number, names in ((1, ["model.safetensors", ".lock"]), (2, ["model.safetensors"]), (3, [])):
        dead = tmp_path / f".tmp-model-{number}"
        dead.mkdir()
        for name in names:
            (dead / name).touch()
    with writing.staged(tmp_path) as mine:
        (mine / "a").write_text("mine")
        with writing.staged(tmp_path) as others:
            assert others != mine
            assert sorted(litter(tmp_path)) == sorted([mine.name, others.name])
        assert (mine / "a").read_text() == "mine"
        writing.move_in(mine, tmp_path, ("a",))
    assert litter(tmp_path) == []
    assert (tmp_path / "a").read_text() == "mine"


@pytest.fixture
def cleaned_too_early(monkeypatch):
    """Have somebody who starts at the same time remove what was just created, before its lock is held; once."""
    real, left = fcntl.flock, [True]

    def flock(file, operation):
        if left and not operation & fcntl.LOCK_NB:
            left.clear()
            path = os.readlink(f"/proc/self/fd/{file.fileno()}")
            os.unlink(path)
            if ".tmp-model" in path:
                os.rmdir(os.path.dirname(path))
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    return left


def test_fault_39_what_is_removed_before_its_lock_is_held_is_made_again(tmp_path, cleaned_too_early):
    writing.write_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    cleaned_too_early.append(True)
    save_tokenizer(make_tokenizer(make_data_config()), tmp_path)
    assert len(load_tokenizer(tmp_path)) == 13
    assert not cleaned_too_early and litter(tmp_path) == []


def test_fault_39_processes_of_the_same_number_on_two_machines_write_two_files(tmp_path):
    path = tmp_path / "file"
    with writing.replace_file(path) as one, writing.replace_file(path) as other:
        one.write(b"one")
        other.write(b"other")
    assert path.read_bytes() == b"one"  # which ended last
    assert litter(tmp_path) == []


def test_fault_39_a_dataset_that_another_process_wrote_meanwhile_is_used(run_folder, call_script, monkeypatch):
    manifest = run_folder / "sequences.txt.manifest.json"
    content = manifest.read_bytes()
    manifest.unlink()

    @contextmanager
    def after_another(path):
        manifest.write_bytes(content)
        yield

    monkeypatch.setattr(writing, "alone_with", after_another)
    done = call_script("data_generator.py", cwd=run_folder)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "is up to date" in done.stdout


def test_fault_39_a_tokenizer_is_not_put_under_a_process_that_works_in_the_folder(tmp_path, monkeypatch):
    first, second = (make_tokenizer(make_data_config(base=base)) for base in (10, 16))
    save_tokenizer(first, tmp_path)
    monkeypatch.setattr(tokenizer_script, "PATIENCE", 0.0)
    refused = pytest.raises(EnvironmentFault, match=rf"in use by process {os.getpid()}$")
    with writing.exclusive(tmp_path), refused:
        tokenizer_script.replace_tokenizer(second, tmp_path, is_fresh=True)
    assert tokenizer_sha256(load_tokenizer(tmp_path)) == tokenizer_sha256(first)
    assert tokenizer_script.replace_tokenizer(second, tmp_path, is_fresh=False)
    assert not tokenizer_script.replace_tokenizer(second, tmp_path, is_fresh=False)
    assert json.loads((tmp_path / TOKENIZER).read_text())


def test_fault_39_a_holder_that_has_not_written_its_number_yet_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_MOMENT", 5.0)
    with (tmp_path / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        telling = threading.Timer(0.05, lambda: (file.write("4711"), file.flush()))
        telling.start()
        with pytest.raises(EnvironmentFault, match=r"in use by process 4711$"), writing.exclusive(tmp_path):
            pytest.fail("two holders")
        telling.join()


def test_fault_39_a_card_shows_what_another_process_reported_while_it_was_written(tmp_path, monkeypatch):
    """The facts of a card are read and the card is written in one piece: who comes between waits."""
    order, others = [], []
    monkeypatch.setattr(model_card, "write_report", lambda folder, name, content: folder / name)

    def read_facts(folder):
        order.append("read")
        if len(order) == 1:
            others.append(threading.Thread(target=model_card.record, args=(tmp_path, ATTENTION, {})))
            others[0].start()
            others[0].join(0.1)
        return order

    monkeypatch.setattr(model_card, "read_card_facts", read_facts)
    monkeypatch.setattr(model_card, "model_card", lambda facts, *others: order.append("made") or CARD)
    model_card.record(tmp_path, EVALUATION, {})
    others[0].join(10)
    assert order == ["read", "made"] * 2
    assert litter(tmp_path) == []
