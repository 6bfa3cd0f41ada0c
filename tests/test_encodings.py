"""Locales, encodings, byte-order marks and ends of lines that are not those of whoever wrote the scripts."""

import codecs
import io
import os
import sys
from pathlib import Path

import pytest
import torch

import inference
from simple_llm import command_line, run_log
from simple_llm.errors import UsageError
from simple_llm.files.names import DATA_CONFIG
from simple_llm.files.reading import in_utf8, require_replaceable
from simple_llm.model.folder import load_model
from simple_llm.model.network import save_model
from simple_llm.training.checkpoint import newest_checkpoint
from tests.model_folders import write_model
from tests.test_checkpoint import Trained
from tests.tiny_models import make_data_config, make_train_config

pytestmark = pytest.mark.library

NAMES = [b"mod\xe8le", b"mod\xc3\xa8le", b"\xb8\xa1 \xff"]  # in Latin-1, in UTF-8, in EUC-JP and something else


@pytest.mark.parametrize("name", NAMES)
def test_fault_41_a_model_in_a_folder_of_any_name_is_written_and_loaded(tmp_path, name):
    folder = tmp_path / os.fsdecode(name)
    write_model(folder, make_data_config(), make_train_config(2))
    assert load_model(folder).train.model.n_layer == 1
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_fault_41_a_checkpoint_in_a_folder_of_any_name_is_written_and_loaded(tmp_path):
    trained, again = Trained(num_steps=1), Trained(num_steps=0)
    for name in NAMES:
        folder = tmp_path / os.fsdecode(name) / "checkpoints"
        trained.save(folder, 1)
        path, _, rejected = newest_checkpoint(folder)
        assert (path.name, rejected) == ("step-1", [])
        again.load(path)
        pairs = zip(trained.model.parameters(), again.model.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def test_fault_41_what_a_library_is_told_is_the_path_itself_or_one_that_is_text_and_gone_afterwards(tmp_path):
    with in_utf8(tmp_path / "modèle") as told:
        assert told == tmp_path / "modèle"
    folder = tmp_path / os.fsdecode(b"mod\xe8le")
    folder.mkdir()
    with in_utf8(folder / "file") as told:
        str(told).encode()
        told.write_bytes(b"written")
    assert (folder / "file").read_bytes() == b"written"
    assert not told.parent.exists()


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
@pytest.mark.parametrize(
    ("encoding", "said"),
    [("ascii", b"mod\\xe8le \\udce8\n"), ("latin-1", b"mod\xe8le \\udce8\n")],
)
def test_fault_41_what_a_terminal_cannot_say_is_escaped(monkeypatch, encoding, said, errors):
    terminal = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(terminal, encoding, errors))
    command_line.run(print, "modèle \udce8")
    assert terminal.getvalue() == said


def test_fault_41_a_reader_that_a_user_has_chosen_stays(monkeypatch):
    terminal = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(terminal, "ascii", "replace"))
    command_line.run(print, "modèle")
    assert terminal.getvalue() == b"mod?le\n"


def test_fault_41_the_log_takes_every_name(tmp_path):
    run_log.open_log(tmp_path)
    run_log.events.info("saved %s", os.fsdecode(b"mod\xe8le"))
    run_log.close_log()
    assert "saved mod\\udce8le" in (tmp_path / "run.log").read_text("utf-8")


def test_fault_41_a_name_that_the_locale_cannot_write_is_told_before_the_work(capsys):
    encoding = sys.getfilesystemencoding()

    def main():
        require_replaceable(Path("rows\ud800.txt"))

    with pytest.raises(SystemExit) as caught:
        command_line.run(main)
    told = (
        f"'rows\\ud800.txt' cannot be written in {encoding}, this locale's encoding; "
        "set LC_ALL=C.UTF-8, or name another\n"
    )
    assert (caught.value.code, capsys.readouterr().err) == (5, told)


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_fault_41_a_byte_order_mark_is_no_part_of_the_first_problem(mark, end):
    content = mark + b"1+1" + end + b"\xef\xbb\xbf2+2" + end  # in the middle it is one
    assert list(inference.bounded_lines(io.BytesIO(content))) == ["1+1", "\ufeff2+2"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_fault_41_problems_in_utf_16_are_refused_by_its_name(encoding):
    with pytest.raises(UsageError, match=r"sums\.txt is in UTF-16; save it in UTF-8"):
        list(inference.bounded_lines(io.BytesIO("\ufeff1+1\n".encode(encoding)), "sums.txt"))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_fault_41_a_config_may_have_a_byte_order_mark_and_other_ends_of_lines(load, end):
    text = "\ufeffseed: 7\nnumbers:\n  base: 10\n".replace("\n", end)
    data, _ = load(data=text)
    assert (data.seed, data.numbers.base) == (7, 10)


def test_fault_41_files_of_a_model_are_in_utf_8_whatever_the_locale_says(tmp_path, monkeypatch):
    real = Path.write_text
    monkeypatch.setattr(
        Path, "write_text", lambda path, text, encoding="latin-1", *others: real(path, text, encoding, *others)
    )
    model = write_model(tmp_path / "model", make_data_config(), make_train_config(2))
    data = make_data_config()
    data = data.model_copy(update={"storage": data.storage.model_copy(update={"path": Path("modèle.txt")})})
    save_model(tmp_path / "model", model, data, make_train_config(2), {"step": 7})
    (tmp_path / "model" / DATA_CONFIG).read_text("utf-8")
    assert load_model(tmp_path / "model").data.storage.path == Path("modèle.txt")
