import errno
import itertools
import os
import re
import shutil
from pathlib import Path

import pytest

import data_generator
import trainer
from simple_llm.config.settings import Averaging, Hub, Paths, Training
from simple_llm.data.dataset import read_manifest, write_dataset
from simple_llm.data.rows import RowFormat
from simple_llm.errors import EnvironmentFault, Interrupted
from simple_llm.files import writing
from simple_llm.files.names import WRITTEN_HERE
from simple_llm.model.tokenizer_files import save_tokenizer
from simple_llm.training import checkpoint, learner
from simple_llm.training.checkpoint import newest_checkpoint, TrainingState
from simple_llm.training.learner import build_model
from simple_llm.training.run import Run
from tests.finished_run import make_unfinished
from tests.forked import fill, fork_script, make_read_only, mount_disk, with_own_mounts
from tests.test_checkpoint import names, Trained
from tests.test_trainer import checkpoints, weights
from tests.tiny_models import make_data_config, make_tokenizer, make_train_config

pytestmark = pytest.mark.usefixtures("blank_pictures")

DISK_FULL = re.compile(r"^disk full: need [\d.]+ (?:B|kB|MB), have [\d.]+ (?:B|kB|MB) at (\S+)$", re.MULTILINE)


def script(name, *arguments, cwd, before=lambda: None):
    return fork_script(name, *arguments, cwd=cwd, before=before).end()


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".tmp")]


# ---- Units ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_bytes", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (25_310_208, "25.3 MB"), (999_600, "1 MB"), (10**15, "1e+03 TB")],
)
def test_a_size_is_written_for_people(num_bytes, shown):
    assert writing.human_size(num_bytes) == shown


def test_more_than_there_is_is_refused_with_both_numbers_though_the_folder_is_not_there_yet(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 0, 4_200_000))
    writing.require_room(4_200_000, tmp_path / "to be" / "made")
    with pytest.raises(EnvironmentFault) as caught:
        writing.require_room(4_200_001, tmp_path / "to be" / "made")
    assert str(caught.value) == f"disk full: need 4.2 MB, have 4.2 MB at {tmp_path / 'to be' / 'made'}"
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("error", [ValueError("x"), OSError(errno.EIO, "x"), KeyboardInterrupt()])
def test_what_is_not_the_disks_fault_stays_what_it_is(tmp_path, error):
    with pytest.raises(type(error)) as caught, writing.room_for(1, tmp_path):
        raise error
    assert caught.value is error


def test_the_room_of_a_checkpoint_is_known_before_the_first_step(tmp_path):
    before, after = Trained(num_steps=0), Trained(num_steps=1)
    known = checkpoint.checkpoint_bytes(before.model, before.optimizers)
    assert known == checkpoint.checkpoint_bytes(after.model, after.optimizers)
    taken = sum(path.stat().st_size for path in after.save(tmp_path, 1).iterdir())
    assert taken <= known < taken + 2**17


def test_the_room_of_a_mean_of_the_weights_is_known_too(tmp_path, monkeypatch):
    trained, asked = Trained(num_steps=1), []
    mean = dict(trained.model.named_parameters())
    arguments = trained.model, trained.optimizers
    path = checkpoint.save_checkpoint(tmp_path, *arguments, TrainingState(1), {}, 2, mean)
    known = checkpoint.checkpoint_bytes(*arguments, has_mean=True)
    taken = sum(path.stat().st_size for path in path.iterdir())
    assert taken <= known < taken + 2**17
    monkeypatch.setattr("simple_llm.training.run.require_room", lambda num_bytes, folder: asked.append(num_bytes))
    for averaging in (None, Averaging(start=1)):
        config = Training(max_steps=10, save_every=10, averaging=averaging)
        Run(tmp_path / "new", {}).require_room(*arguments, config)
    assert asked[1] - asked[0] == known - checkpoint.checkpoint_bytes(*arguments) > 0


def test_a_run_asks_for_one_checkpoint_more_than_it_keeps_and_for_those_there_no_more(tmp_path, monkeypatch):
    trained, asked = Trained(num_steps=1), []
    monkeypatch.setattr("simple_llm.training.run.require_room", lambda num_bytes, folder: asked.append(num_bytes))
    one = checkpoint.checkpoint_bytes(trained.model, trained.optimizers)
    for max_steps, start_step, num_more in ((100, -1, 3), (10, -1, 1), (20, -1, 2), (100, 20, 1), (21, 20, 1)):
        shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
        for step in (10, 20) if start_step == 20 else ():
            trained.save(tmp_path / "checkpoints", step)
        run = Run(tmp_path, {}, start_step=start_step)
        run.require_room(trained.model, trained.optimizers, Training(max_steps=max_steps, save_every=10))
        assert 0 < asked.pop() - num_more * one < one + 2**21


# ---- Disks that are really full ---------------------------------------------------------------------


def test_fault_03_a_disk_that_fills_up_at_any_file_of_a_save_leaves_the_older_checkpoints(tmp_path):
    """The room is taken after it was found to be there: what fails is the write, in each library's own way."""

    def fill_before(patch, name, count):
        real, calls = getattr(checkpoint, name), itertools.count(1)

        def fill_first(*arguments):
            if next(calls) == count:
                fill(tmp_path)
            return real(*arguments)

        patch.setattr(checkpoint, name, fill_first)

    def body():
        mount_disk(tmp_path, 2**20)
        trained = Trained(num_steps=2)
        for step in (4, 8):
            trained.save(tmp_path / "checkpoints", step)
        for name in ("_write_tensors", "write_file", "write_manifest"):
            for count in (1, 2) if name == "_write_tensors" else (1,):
                with pytest.MonkeyPatch.context() as patch:
                    fill_before(patch, name, count)
                    with pytest.raises(EnvironmentFault, match=DISK_FULL.pattern):
                        trained.save(tmp_path / "checkpoints", 12)
                assert names(tmp_path / "checkpoints") == ["step-4", "step-8"], name
                (tmp_path / "ballast").unlink()
        assert newest_checkpoint(tmp_path / "checkpoints")[2] == []

    with_own_mounts(body)


def test_fault_03_a_disk_full_in_training_evaluation_and_data_writing_ends_with_5_and_is_got_over(
    finished_run, tmp_path
):
    def fill_in_step_5():
        real = learner.batch_indices

        def batch_indices(examples, config, step):
            if step == 5:
                fill(Path("model"))
            return real(examples, config, step)

        learner.batch_indices = batch_indices

    def fill_while_rows_are_written():
        real = RowFormat.write
        RowFormat.write = lambda *arguments: (fill(tmp_path), real(*arguments))[1]

    def ends_with_5(done, place):
        assert done.exit_code == 5, done.stderr
        assert DISK_FULL.search(done.stderr)[1] == place, done.stderr
        assert "Traceback" not in done.stderr
        assert not temporaries(tmp_path)

    def body():
        mount_disk(tmp_path, 6 * 2**20)
        folder = Path(shutil.copytree(finished_run.folder, tmp_path / "run"))
        rows, ballast = folder / "sequences.txt", tmp_path / "ballast"
        content = rows.read_bytes()
        more = ("storage.num_sequences=30000", "--force")
        ends_with_5(script("data_generator.py", *more, cwd=folder, before=fill_while_rows_are_written), ".")
        ends_with_5(script("data_generator.py", *more, cwd=folder), ".")
        assert rows.read_bytes() == content  # and still a dataset: the trainer below uses it

        fill(tmp_path)
        ends_with_5(script("evaluate.py", "--samples", "10", cwd=folder), "model")
        ballast.unlink()

        make_unfinished(folder)
        shutil.rmtree(folder / "model" / "checkpoints")
        ends_with_5(
            script("trainer.py", "training.save_every=3", cwd=folder, before=fill_in_step_5), "model/checkpoints"
        )
        assert checkpoints(folder) == ["step-3"]
        (folder / "model" / "ballast").unlink()
        done = script("trainer.py", cwd=folder)
        assert done.exit_code == 0, done.stderr
        assert "going on from model/checkpoints/step-3" in done.stderr
        assert weights(folder) == weights(finished_run.folder)

    with_own_mounts(body)


def test_fault_03_an_upload_on_the_way_without_room_is_told_and_training_goes_on(tmp_path, monkeypatch, capsys):
    data, train = make_data_config(), make_train_config(1)
    train = train.model_copy(
        update={"hub": Hub(push=True, repo_id="me/adder", every=4), "paths": Paths(model=tmp_path)}
    )
    tokenizer = make_tokenizer(data)
    save_tokenizer(tokenizer, tmp_path)
    upload = trainer.uploader(build_model(data, train, tokenizer), data, train, Run(tmp_path, {}))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1))
    upload(TrainingState(step=4))
    assert re.match(r"warning: step 4 is not uploaded: disk full: need .*, have 1 B at ", capsys.readouterr().err)

    def interrupted(*arguments):
        raise Interrupted("stopped", 15)

    monkeypatch.setattr(trainer, "push_checkpoint", interrupted)
    with pytest.raises(Interrupted):
        upload(TrainingState(step=4))


def test_fault_13_a_folder_without_room_or_read_only_is_found_before_training_starts(finished_run, tmp_path):
    def body():
        folder = Path(shutil.copytree(finished_run.folder, tmp_path / "run"))
        tokenizer = {path: path.read_bytes() for path in (folder / "model").glob("token*")}
        for room, message in (
            (2**20, DISK_FULL.pattern),
            (2**16, DISK_FULL.pattern),  # full to the last byte: not even the lock can be written
            (None, "^model cannot be written: Read-only file system$"),
        ):
            mount_disk(folder / "model", room or 2**22)
            for path, content in tokenizer.items():
                path.write_bytes(content)
            if room == 2**16:
                fill(folder / "model")
            if room is None:
                make_read_only(folder / "model")
            there = set(os.listdir(folder / "model"))
            done = script("trainer.py", cwd=folder)
            assert done.exit_code == 5, done.stderr
            assert re.search(message, done.stderr, re.MULTILINE), done.stderr
            assert set(os.listdir(folder / "model")) <= there | {".lock", "run.log", WRITTEN_HERE}

    with_own_mounts(body)


def test_fault_13_a_folder_that_may_not_be_written_is_found_though_its_lock_is_there(tmp_path, monkeypatch):
    from simple_llm.files.writing import exclusive

    with exclusive(tmp_path):
        pass
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(EnvironmentFault, match="cannot be written"), exclusive(tmp_path):
        pytest.fail("locked it")


def test_fault_03_a_dataset_that_finds_no_room_leaves_the_one_that_was_there(tmp_path):
    def body():
        mount_disk(tmp_path, 2**19)
        config = data_generator.DataConfig(
            numbers={"max": 999, "base": 10}, storage={"path": tmp_path / "s.txt", "num_sequences": 2000}
        )
        draw = data_generator.draw_problems(config)
        made = data_generator.write_problems(config, draw)
        real = RowFormat.write
        for fills_first in (True, False):  # found full, or full when the first row is written
            with pytest.MonkeyPatch.context() as patch:
                if fills_first:
                    fill(tmp_path)
                else:
                    patch.setattr(RowFormat, "write", lambda *arguments: (fill(tmp_path), real(*arguments))[1])
                with pytest.raises(EnvironmentFault, match=DISK_FULL.pattern):
                    write_dataset(config, draw.problems, draw.asked, draw.drawn, lambda num_rows: None)
            (tmp_path / "ballast").unlink()
            assert not temporaries(tmp_path)
            assert read_manifest(config) == made

    with_own_mounts(body)
