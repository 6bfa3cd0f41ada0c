"""kill -9 of data_generator.py: afterwards there is a whole dataset or none."""

import shutil
import time
from pathlib import Path

from benchmarks.faults.processes import KILLED, look_for_leavings, Script
from benchmarks.faults.tally import Plan, Tally
from benchmarks.faults.tiny_run import data_config_of
from simple_llm.data.dataset import read_manifest
from simple_llm.errors import ArtefactError
from tests.pipeline import write_configs

DATA = {"storage": {"path": "sequences.txt", "num_sequences": 2_000_000}}


def run(plan: Plan) -> list[Tally]:
    """Kill one start after another; every second one finds the dataset there and makes it anew."""
    whole, folder = plan.folder / "whole", plan.folder / "killed"
    for made in (whole, folder):
        made.mkdir()
        write_configs(made, DATA, {})
    drawing, writing = time_unkilled(whole)
    expected = dataset_sha256(whole)
    kills = Tally("kill -9 of data_generator.py: a whole dataset, or none")
    ends = Tally("  at its end: the bytes of an unkilled one")
    while kills.tried < plan.count:
        if kills.tried % 2:
            for path in whole.glob("sequences.txt*"):
                shutil.copy(path, folder)
        script, while_drawing = Script("data_generator.py", "--force", cwd=folder), plan.rng.random() < 0.25
        delay = plan.rng.uniform(0, drawing if while_drawing else writing)
        script.kill_after(lambda: while_drawing or is_writing(folder, script), delay)  # noqa: B023 - called here alone
        if script.exit_code() != KILLED:
            ends.judge(what_is_wrong(script, folder, expected))
            continue
        judge_kill(kills, folder, expected)
        kills.where["while rows were written" if is_writing(folder, script) else "before or after"] += 1
        plan.advance(1)
    for options in ([], ["--force"]):
        script = Script("data_generator.py", *options, cwd=folder)
        script.wait()
        ends.judge(what_is_wrong(script, folder, expected))
    return [kills, ends, look_for_leavings(folder)]


def time_unkilled(folder: Path) -> tuple[float, float]:
    """Let a generator come to its end; return its seconds before the first row is written and after it."""
    started, seen = time.monotonic(), []
    script = Script("data_generator.py", cwd=folder)
    script.wait(lambda: seen or (is_writing(folder, script) and seen.append(time.monotonic())))
    assert script.exit_code() == 0, script.ending()
    return seen[0] - started, time.monotonic() - seen[0]


def is_writing(folder: Path, script: Script) -> bool:
    """Whether the process has begun a file that has not got its name."""
    return any(folder.glob(f".tmp-*-{script.pid}{'[0-9]' * 9}"))  # the process, and a number drawn for the file


def dataset_sha256(folder: Path) -> str:
    """Verify the dataset; raises ArtefactError where there is none."""
    return read_manifest(data_config_of(folder)).sha256


def judge_kill(kills: Tally, folder: Path, expected: str) -> None:
    """A whole dataset survived; one that is refused was detected."""
    try:
        sha256 = dataset_sha256(folder)
    except ArtefactError:
        kills.detect()
    else:
        kills.judge("" if sha256 == expected else f"a dataset of other bytes, {sha256[:12]}")


def what_is_wrong(script: Script, folder: Path, expected: str) -> str:
    """Check what a generator that came to its end has left; empty where all is well."""
    if script.exit_code() != 0:
        return script.ending()
    try:
        sha256 = dataset_sha256(folder)
    except ArtefactError as error:
        return str(error)
    return "" if sha256 == expected else f"other bytes, {sha256[:12]}"
