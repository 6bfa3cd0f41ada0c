"""runs/gpu.py, whose steps are replaced by ones that take no time, or too much."""

import argparse
import json
import time
from pathlib import Path

import pytest

from runs import gpu, tracks
from runs.gpu import Step
from simple_llm.config.loading import load_configs
from simple_llm.errors import UsageError
from tests.pipeline import REPOSITORY

DONE = Step("done", 60, ["-c", "print('words'); print('{\"right\": [%s]}' % ', '.join(30 * '7'))"], [])
FAILED = Step("failed", 60, ["-c", "import sys; print('3 passed'); sys.exit('no such file')"], [])


def starts_another(file: Path, then: str) -> list[str]:
    """A program that starts another, which notes its process ID in a file and sleeps, and waits until it has."""
    child = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    wait = f"while not (os.path.exists({str(file)!r}) and open({str(file)!r}).read()): time.sleep(0.01)"
    return [
        "-c",
        f"import os, subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {child!r}])\n{wait}\n{then}",
    ]


def is_gone(pid: int) -> bool:
    """Whether a process ended, within seconds; one that waits for its parent to look has ended."""
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def asked(**changed: object) -> argparse.Namespace:
    return argparse.Namespace(**{"minutes": 10.0, "only": None, "write": None, "dry": True, **changed})


def test_a_step_is_told_with_its_json_its_exit_code_and_the_first_of_a_long_list(tmp_path):
    told = gpu.run_step(DONE, tmp_path, 60, is_small=False)
    assert (told["exit_code"], told["result"]) == (0, {"right": 20 * [7]})
    assert "why" not in told and "last_lines" not in told


def test_what_a_step_said_that_failed_is_told(tmp_path):
    told = gpu.run_step(FAILED, tmp_path, 60, is_small=False)
    assert (told["exit_code"], told["result"], told["last_lines"]) == (1, "3 passed", ["3 passed", "no such file"])


def test_a_step_over_its_limit_is_killed_with_its_children(tmp_path):
    step = Step("slow", 2, starts_another(tmp_path / "pid", "time.sleep(60)"), [])
    told = gpu.run_step(step, tmp_path, 60, is_small=False)
    assert (told["exit_code"], told["result"], told["why"]) == (None, None, "killed after 2 seconds")
    assert told["seconds"] < 20
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_what_a_step_leaves_running_is_ended(tmp_path):
    told = gpu.run_step(Step("leaves", 60, starts_another(tmp_path / "pid", ""), []), tmp_path, 60, is_small=False)
    assert told["exit_code"] == 0
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_what_a_step_started_is_killed_when_the_run_is_interrupted(tmp_path, monkeypatch):
    def interrupted(process, seconds=None, wait=gpu.subprocess.Popen.wait):
        if seconds is None:
            return wait(process)
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu.subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gpu.run_step(Step("slow", 60, starts_another(tmp_path / "pid", "time.sleep(60)"), []), tmp_path, 60, False)
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_the_pairs_that_were_checked_when_time_was_up_are_told(tmp_path):
    (tmp_path / "default" / "proof").mkdir(parents=True)
    shards = [tmp_path / "default" / "proof" / f"shard-{number}.json" for number in range(2)]
    write = "".join(f"\npathlib.Path({str(path)!r}).write_text(shard)" for path in shards)
    program = f'import pathlib, time\nshard = \'{{"shard": {{"checked": 5, "wrong": 2}}}}\'{write}\ntime.sleep(60)'
    told = gpu.run_step(Step("proof", 2, ["-c", program, "--exhaustive"], []), tmp_path, 60, is_small=False)
    assert told["so_far"] == {"checked": 10, "wrong": 4}


def test_all_steps_run_and_the_folder_is_deleted(monkeypatch, tmp_path, capsys):
    folders, kept = [], tmp_path / "gpu.json"

    def steps_in(folder: Path) -> list[Step]:
        folders.append(folder)
        leave = f"open({str(folder / 'left')!r}, 'w').write('x')"
        seen = f"import json; print(json.dumps([*json.load(open({str(kept)!r}))['steps']]))"
        return [Step("leaves a file", 60, ["-c", leave], []), FAILED, Step("last", 60, ["-c", seen], [])]

    monkeypatch.setattr(gpu, "steps_in", steps_in)
    gpu.main(asked(write=kept))
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [step["exit_code"] for step in document["steps"].values()] == [0, 1, 0]
    assert document["steps"]["last"]["result"] == ["leaves a file", "failed"]  # each is kept as soon as it is there
    assert json.loads(kept.read_text()) == document
    assert {"gpu", "cores"} <= document["machine"].keys()
    assert {"torch", "transformers"} <= document["versions"].keys()
    assert not folders[0].exists()


def test_no_step_goes_on_when_all_of_the_time_is_over(monkeypatch, capsys):
    monkeypatch.setattr(
        gpu, "steps_in", lambda folder: [Step("slow", 60, ["-c", "import time; time.sleep(60)"], []), DONE]
    )
    gpu.main(asked(minutes=1 / 60))
    slow, done = json.loads(capsys.readouterr().out)["steps"].values()
    assert (slow["exit_code"], slow["why"]) == (None, "killed after 1 seconds")
    assert (done["exit_code"], done["why"]) == (None, "no time was left")


def test_steps_are_run_in_the_order_they_are_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "steps_in", lambda folder: [DONE, FAILED])
    gpu.main(asked(only=["failed", "done"]))
    assert [*json.loads(capsys.readouterr().out)["steps"]] == ["failed", "done"]
    with pytest.raises(UsageError, match="--only dnoe: there are done, failed"):
        gpu.main(asked(only=["dnoe"]))


def test_without_a_gpu_only_the_small_run_is_made(monkeypatch):
    monkeypatch.setattr(gpu, "host_facts", lambda: {"gpu": "none"})
    with pytest.raises(UsageError, match="--dry"):
        gpu.main(asked(dry=False))


@pytest.mark.parametrize("is_small", [False, True], ids=["full", "small"])
@pytest.mark.parametrize("step", gpu.steps_in(Path("folder")), ids=lambda step: step.name)
def test_every_step_is_a_command_of_the_repository_with_settings_that_are_there(step, is_small):
    command = [*step.command, *(step.small if is_small else ())]
    name = command[1].replace(".", "/") + ".py" if command[0] == "-m" else command[0]
    assert command[1] == "pytest" or (REPOSITORY / name).is_file()
    overrides = [one for one in command if "=" in one and not one.startswith("-")]
    if "--track" in command:
        assert tracks.recipe(command[command.index("--track") + 1], tracks.RECIPES, 0, overrides)
    else:
        assert load_configs(REPOSITORY / "data_config.yaml", REPOSITORY / "train_config.yaml", overrides)
