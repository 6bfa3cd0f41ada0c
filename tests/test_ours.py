"""What is replaced or deleted is what we wrote: a list beside the files says which those are."""

import json
import os
import shutil
from pathlib import Path

import pytest

from simple_llm.errors import ArtefactError
from simple_llm.files import names
from simple_llm.files.ours import ANYTHING, claim, require_ours, sha256_of_content
from simple_llm.files.writing import exclusive, move_in, write_ours
from simple_llm.proof import shards
from tests.finished_run import make_unfinished
from tests.test_trainer import content

MINE = b"my own words, and a page of them\n"
ONE_FILES = [name for name in names.FOLDER_FILES if "*" not in name]


def refusal(call) -> str:
    with pytest.raises(ArtefactError) as caught:
        call()
    return str(caught.value)


# ---- The list -------------------------------------------------------------------------------------


def test_what_was_written_is_ours_until_it_is_changed_and_what_was_there_is_not(tmp_path):
    path = tmp_path / "README.md"
    for text in (b"one", b"two"):
        write_ours(path, text)
    assert path.read_bytes() == b"two"
    path.write_bytes(b"one")  # one of ours
    write_ours(path, b"three")
    path.write_bytes(MINE)
    assert "README.md, not written by this program or changed since" in refusal(lambda: write_ours(path, b"four"))
    assert path.read_bytes() == MINE


def test_a_claim_of_anything_holds_whatever_becomes_of_the_file(tmp_path):
    claim(tmp_path / "not" / "there", {"run.log": ANYTHING})
    claim(tmp_path, {"run.log": ANYTHING})
    (tmp_path / "run.log").write_bytes(MINE)
    require_ours(tmp_path, ["run.log"])
    assert "b.log" in refusal(lambda: (write(tmp_path / "b.log"), require_ours(tmp_path, ["*.log"])))


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(MINE)


def test_a_list_is_only_added_to_and_a_torn_line_costs_that_line_alone(tmp_path):
    write_ours(tmp_path / "a", b"a")
    with (tmp_path / names.WRITTEN_HERE).open("ab") as file:
        file.write(b"5e0c1f")  # killed
    write_ours(tmp_path / "b", b"b")
    lines = (tmp_path / names.WRITTEN_HERE).read_text().splitlines()
    assert lines == [f"{sha256_of_content(b'a')}  a", "5e0c1f", f"{sha256_of_content(b'b')}  b"]
    require_ours(tmp_path, "ab")


def test_a_file_is_claimed_before_it_is_there_so_that_a_killed_writer_s_is_known(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("simple_llm.files.writing.write_file", lambda *_: seen.append(list(tmp_path.iterdir())))
    write_ours(tmp_path / "a", b"a")
    assert seen == [[tmp_path / names.WRITTEN_HERE]]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("elsewhere.txt")])
def test_fault_34_what_is_no_file_is_not_ours_though_its_name_was(tmp_path, make):
    (tmp_path / "elsewhere.txt").write_bytes(MINE)
    claim(tmp_path, {"a": ANYTHING})
    make(tmp_path / "a")
    assert "holds a," in refusal(lambda: require_ours(tmp_path, ["a"]))


def test_a_report_and_a_picture_say_whose_they_are_and_need_no_list(tmp_path):
    for name, text in (("evaluation.json", b'{"model_sha256": "5e"}'), ("mine.png", b"\x89PNG simple-llm")):
        write_ours(tmp_path / name, text)
        (tmp_path / name).write_bytes(text[:-1])  # damaged
        write_ours(tmp_path / name, text) if name == "evaluation.json" else None
    assert sorted(os.listdir(tmp_path)) == ["evaluation.json", "mine.png"]
    assert "holds mine.png" in refusal(lambda: write_ours(tmp_path / "mine.png", b"\x89PNG simple-llm"))


@pytest.mark.parametrize("mine", [b"1,2,3\n2,4,6\n", MINE, b"1|2|3;4|5|9;"])
def test_fault_34_a_file_beside_an_old_manifest_of_rows_is_not_taken_for_them(run_folder, call_script, mine):
    path = run_folder / "sequences.txt"
    path.write_bytes(mine)
    called = call_script("data_generator.py", cwd=run_folder)
    assert (called.exit_code, "not ours by its manifest" in called.stderr) == (3, True), called.stderr
    assert path.read_bytes() == mine
    assert call_script("data_generator.py", "--force", cwd=run_folder).exit_code == 0


def test_fault_34_what_has_a_checkpoint_s_name_and_no_manifest_outlives_the_next_save(run_folder, call_script):
    make_unfinished(run_folder)
    checkpoints = run_folder / "model" / "checkpoints"
    for name in ("step-700", "step-12"):
        shutil.rmtree(checkpoints / name, ignore_errors=True)
        write(checkpoints / name / names.WEIGHTS)
    called = call_script("trainer.py", cwd=run_folder)
    assert called.exit_code == 0, called.stderr
    assert (checkpoints / "step-700" / names.WEIGHTS).read_bytes() == MINE
    [aside] = checkpoints.glob("not-ours-step-12-*")
    assert (aside / names.WEIGHTS).read_bytes() == MINE


def test_fault_34_a_picture_that_is_no_bitmap_says_whose_it_is_too(tmp_path):
    write_ours(tmp_path / "work.svg", b"<svg><!-- made by simple-llm --></svg>")
    write(tmp_path / "mine.svg")
    assert "holds mine.svg" in refusal(lambda: write_ours(tmp_path / "mine.svg", b"<svg>simple-llm</svg>"))
    assert os.listdir(tmp_path / "..") and not (tmp_path / names.WRITTEN_HERE).exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no file system here that takes no files")
def test_fault_40_where_no_file_can_be_made_a_writer_says_so_and_ends(tmp_path, call_script, run_folder):
    called = call_script("data_generator.py", "storage.path=/proc/simple-llm.txt", cwd=run_folder)
    assert (called.exit_code, "/proc" in called.stderr) == (5, True), called.stderr


# ---- Model folders ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE_FILES)
def test_fault_34_no_file_of_a_folder_is_replaced_that_was_there_before(finished_run, tmp_path, call_script, name):
    for one in ("data_config.yaml", "train_config.yaml", "sequences.txt", "sequences.txt.manifest.json"):
        shutil.copy(finished_run.folder / one, tmp_path / one)
    write(tmp_path / "model" / name)
    called = call_script("tokenizer.py", cwd=tmp_path)
    assert called.exit_code == 3, called.stderr
    assert name in called.stderr or name == names.MANIFEST  # which is taken for the sign of a model
    assert content(tmp_path / "model") == {name: MINE} or name == names.LOG
    assert (tmp_path / "model" / name).read_bytes() == MINE
    locked = [".lock"] * (name == names.MANIFEST)
    assert sorted(os.listdir(tmp_path / "model")) == [*locked, name]


@pytest.mark.parametrize("options", [(), ("--fresh",)])
@pytest.mark.parametrize("name", [names.CARD, names.CURVE, names.METRICS, names.EVALUATION, "attention_mine.png"])
def test_fault_34_a_file_that_came_while_a_run_was_on_its_way_stays_and_nothing_is_trained(
    run_folder, call_script, name, options
):
    make_unfinished(run_folder)
    listed = run_folder / "model" / names.WRITTEN_HERE
    listed.write_text("".join(line for line in listed.read_text().splitlines(True) if not line.endswith(f" {name}\n")))
    write(run_folder / "model" / name)
    before = content(run_folder)
    called = call_script("trainer.py", *options, cwd=run_folder)
    assert (called.exit_code, f"model holds {name}, " in called.stderr) == (3, True), called.stderr
    assert content(run_folder) == before


@pytest.mark.parametrize("path", ["checkpoints/step-5/mine.txt", "checkpoints/step-5", "proof/shard-mine.json"])
def test_fault_34_fresh_deletes_nothing_that_only_has_a_name_of_ours(run_folder, call_script, path):
    write(run_folder / "model" / path)
    before = content(run_folder)
    called = call_script("trainer.py", "--fresh", cwd=run_folder)
    assert (called.exit_code, "stays as it is" in called.stderr) == (3, True), called.stderr
    assert content(run_folder) == before


def test_fault_34_a_card_that_was_written_by_hand_stays_and_the_numbers_come(run_folder, call_script, caplog):
    write(run_folder / "model" / names.CARD)
    called = call_script("evaluate.py", "--model", "model", "--samples", "20", "--json", cwd=run_folder)
    assert called.exit_code == 0, called.stderr
    assert json.loads(called.stdout.splitlines()[-1])["total"] == 20
    assert "done without README.md (ArtefactError: model holds README.md, not written by" in caplog.text
    assert (run_folder / "model" / names.CARD).read_bytes() == MINE


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (names.EVALUATION, ("evaluate.py", "--samples", "20")),
        (names.LENGTHS, ("evaluate.py", "--lengths", "1")),
        (names.CERTIFICATE, ("evaluate.py", "--exhaustive")),
        (names.ATTENTION, ("visualize.py", "1+2")),
        (names.ATTENTION_OVERVIEW, ("visualize.py", "1+2")),
    ],
)
def test_fault_34_a_report_or_picture_of_somebody_else_stays(run_folder, call_script, name, arguments):
    write(run_folder / "model" / name)
    called = call_script(*arguments, "--model", "model", cwd=run_folder)
    assert called.exit_code in (3, 5), called.stderr
    assert (run_folder / "model" / name).read_bytes() == MINE


def test_fault_34_a_picture_beside_a_report_stays(run_folder, call_script):
    write(run_folder / "model" / names.ACCURACY)
    assert call_script("evaluate.py", "--model", "model", "--samples", "20", cwd=run_folder).exit_code == 0
    assert (run_folder / "model" / names.ACCURACY).read_bytes() == MINE


def test_fault_34_a_folder_from_before_there_were_lists_is_ours_by_its_manifest(run_folder, call_script):
    (run_folder / "model" / names.WRITTEN_HERE).unlink()
    assert call_script("evaluate.py", "--model", "model", "--samples", "20", cwd=run_folder).exit_code == 0
    assert call_script("trainer.py", "--fresh", "training.max_steps=3", cwd=run_folder).exit_code == 0
    assert (run_folder / "model" / names.CARD).exists()


def test_fault_34_the_lock_of_another_program_is_not_written_into(tmp_path):
    write(tmp_path / ".lock")
    with pytest.raises(ArtefactError, match=r"\.lock is not ours"), exclusive(tmp_path):
        pytest.fail("locked it")
    assert (tmp_path / ".lock").read_bytes() == MINE


def test_fault_34_of_several_files_that_move_in_together_none_does_where_one_is_foreign(tmp_path):
    stage, folder = tmp_path / "stage", tmp_path / "folder"
    for path in (stage / "a", stage / "b", folder / "b"):
        write(path)
    (stage / "b").write_bytes(b"ours")
    assert "holds b," in refusal(lambda: move_in(stage, folder, ("a", "b")))
    assert os.listdir(folder) == ["b"]


def test_a_damaged_shard_is_counted_anew_and_another_file_of_its_name_is_not_replaced(tmp_path):
    shard = shards.Shard(0, 9, 100, 100, 0, 0, [], [(1.0, 0, 0)], "", 1.0)
    shards.write_shard(tmp_path, shard, {})
    [path] = tmp_path.iterdir()
    os.truncate(path, 100)
    shards.write_shard(tmp_path, shard, {})
    assert shards.read_shard(path, {}) is not None
    path.write_bytes(MINE)
    assert path.name in refusal(lambda: shards.write_shard(tmp_path, shard, {}))


# ---- Rows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--force",)])
@pytest.mark.parametrize("name", ["sequences.txt", "sequences.txt.manifest.json"])
def test_fault_34_a_file_in_the_place_of_rows_stays(finished_run, tmp_path, call_script, name, options):
    for one in ("data_config.yaml", "train_config.yaml"):
        shutil.copy(finished_run.folder / one, tmp_path / one)
    write(tmp_path / name)
    called = call_script("data_generator.py", *options, cwd=tmp_path)
    assert called.exit_code == 3
    assert f"{name} is not ours by its manifest, and stays as it is" in called.stderr
    assert content(tmp_path)[name] == MINE


def test_fault_34_text_beside_a_manifest_of_rows_stays_until_somebody_says_so(finished_run, tmp_path, call_script):
    for path in finished_run.folder.glob("*.*"):
        shutil.copy(path, tmp_path)
    (tmp_path / "sequences.txt").write_bytes(MINE)
    called = call_script("data_generator.py", cwd=tmp_path)
    assert (called.exit_code, "or give --force" in called.stderr) == (3, True)
    assert (tmp_path / "sequences.txt").read_bytes() == MINE
    assert call_script("data_generator.py", "--force", cwd=tmp_path).exit_code == 0
    assert content(tmp_path) == {path.name: path.read_bytes() for path in finished_run.folder.glob("*.*")}
