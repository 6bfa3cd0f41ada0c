import errno
import json
import logging
import os
import re
import stat
from pathlib import Path

import pytest

from simple_llm import command_line, run_log
from simple_llm.errors import EnvironmentFault, UsageError
from simple_llm.files.names import LOG
from simple_llm.run_log import close_log, events, open_log
from simple_llm.sharing.hub import UPLOADED_FILES
from tests.finished_run import damage, make_unfinished

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO|WARNING|ERROR) +\S")


@pytest.fixture(autouse=True)
def closed():
    yield
    close_log()


def lines(folder):
    return (folder / LOG).read_text().splitlines()


def test_starts_are_appended_and_an_event_is_a_line_with_a_time_and_a_level(tmp_path):
    for start in (1, 2):
        open_log(tmp_path)
        events.info("start %d\nof two", start)
        close_log()
        events.info("nobody hears")
    assert all(LINE.match(line) or line.startswith("    ") for line in lines(tmp_path))
    assert [line.split("  ")[-1].strip() for line in lines(tmp_path)[1::3]] == ["start 1", "start 2"]
    assert lines(tmp_path)[2] == "    of two"
    with (tmp_path / LOG).open("a") as file:
        file.write("2026-03-01T12:00:00Z INFO    sav")  # killed in the middle of a line
    open_log(tmp_path)
    assert LINE.match(lines(tmp_path)[-1])


def test_the_error_that_ends_a_run_is_in_its_log_and_a_bug_with_its_traceback(tmp_path, capsys):
    def main(error):
        open_log(tmp_path)
        raise error

    with pytest.raises(SystemExit):
        command_line.run(main, UsageError("not so"))
    assert lines(tmp_path)[-1].endswith("ERROR   not so (exit code 2)")
    with pytest.raises(ZeroDivisionError):
        command_line.run(main, ZeroDivisionError("a bug"))
    assert "    Traceback (most recent call last):" in lines(tmp_path)
    assert lines(tmp_path)[-1] == "    ZeroDivisionError: a bug"
    assert not run_log._handlers


def test_a_log_that_cannot_be_written_never_ends_a_run(tmp_path, capsys):
    open_log(tmp_path)
    handler = next(one for _, one in run_log._handlers if isinstance(one, logging.FileHandler))
    handler.setStream(open("/dev/full", "w", buffering=1)).close()  # noqa: SIM115 - the log closes it
    events.warning("lost")
    close_log()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.mknod(path, stat.S_IFSOCK)])
def test_a_log_that_cannot_be_opened_is_told_and_never_ends_a_run(tmp_path, capsys, make):
    make(tmp_path / LOG)
    open_log(tmp_path)
    events.info("lost")
    logging.getLogger("simple_llm.sharing.hub").warning("the Hub: busy")
    assert capsys.readouterr().err == f"{tmp_path / LOG} cannot be written: no ordinary file\nthe Hub: busy\n"


def test_a_log_that_may_not_be_opened_never_ends_a_run(tmp_path, capsys, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied")  # root may open anything

    monkeypatch.setattr(Path, "open", refuse)
    open_log(tmp_path)
    events.info("lost")
    assert capsys.readouterr().err == f"{tmp_path / LOG} cannot be written: Permission denied\n"


def test_a_log_of_any_size_is_opened_at_its_end_without_being_read(tmp_path):
    open_log(tmp_path)
    os.truncate(tmp_path / LOG, 2**38)
    open_log(tmp_path)
    with (tmp_path / LOG).open("rb") as file:
        file.seek(2**38 - 1)
        assert re.match(r"\0\n\d{4}-.* started: ", file.read().decode())


def test_a_log_behind_a_link_is_refused(tmp_path):
    (tmp_path / LOG).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EnvironmentFault, match=r"run\.log is a link"):
        open_log(tmp_path)


def test_a_warning_of_the_package_is_in_the_log_and_on_stderr(tmp_path, capsys):
    open_log(tmp_path)
    logging.getLogger("simple_llm.sharing.hub").warning("the Hub: busy")
    assert lines(tmp_path)[-1].endswith("WARNING the Hub: busy")
    assert capsys.readouterr().err == "the Hub: busy\n"


def test_the_log_of_a_run_says_what_happened_and_no_program_reads_or_uploads_it(finished_run, run_folder, call_script):
    text = (finished_run.folder / "model" / LOG).read_text()
    facts = json.loads(lines(finished_run.folder / "model")[1].split("INFO    ")[1])
    assert {"commit", "versions", "processor", "cores", "threads", "memory", "gpu", "processes"} <= facts.keys()
    assert "started: python3 " in text
    for key in ("config sha256", "data sha256", "tokenizer sha256", "training.seed"):
        assert f'"{key}": ' in text
    assert re.search(r"saved model/checkpoints/step-4: [\d.]+ kB in [\d.]+ s", text)
    assert "finished: step 12, validation " in text
    assert text.endswith("ended (exit code 0)\n")
    assert LOG not in UPLOADED_FILES

    make_unfinished(run_folder)
    damage(run_folder / "model" / "checkpoints" / "step-12" / "state.json")
    assert call_script("trainer.py", cwd=run_folder).exit_code == 0
    assert call_script("trainer.py", "training.seed=1", cwd=run_folder).exit_code == 2
    assert call_script("trainer.py", "--fresh", "training.max_steps=3", cwd=run_folder).exit_code == 0
    after = (run_folder / "model" / LOG).read_text()
    assert after.startswith(text)  # --fresh keeps it
    assert "WARNING rejected step-12: " in after
    assert "ERROR   model belongs to a run with other settings" in after
    assert "    training.seed: 0 there, 1 here" in after
