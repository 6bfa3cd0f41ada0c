"""kill -9 of evaluate.py --exhaustive: shards that are done stay, and the certificate is that of an unkilled proof.

A shard is made of eight first operands here and not of a hundred: there are many in a proof of a few seconds.
"""

import contextlib
import json
import time
from pathlib import Path

from benchmarks.faults.processes import KILLED, look_for_leavings, run_script, Script
from benchmarks.faults.tally import Plan, Tally
from benchmarks.faults.tiny_run import DATA, prepare_run
from simple_llm.files.names import CERTIFICATE
from simple_llm.proof import shards

OPERANDS_A_SHARD = 8
NUM_SHARDS = (DATA["numbers"]["max"] + 1) // OPERANDS_A_SHARD
_OWN_TO_A_START = ("seconds", "date", "command")


def run(plan: Plan) -> list[Tally]:
    """Kill one proof after another; each is started again until its certificate is there."""
    shards.SHARD_OPERANDS = OPERANDS_A_SHARD  # of the processes forked from this one too
    folder = plan.folder / "run"
    model = prepare_run(folder)
    run_script("trainer.py", cwd=folder)
    ending, expected, shard_seconds = unkilled_proof(folder)
    kills = Tally("kill -9 of evaluate.py --exhaustive: no shard is lost")
    ends = Tally("  at its end: the certificate of an unkilled proof")
    while kills.tried < plan.count and ends.lost < plan.count:
        script, num_before = start(folder), num_shards(model)
        wanted = num_before + plan.rng.randint(0, NUM_SHARDS // 4)
        delay = plan.rng.uniform(0, 2 * shard_seconds)
        script.kill_after(lambda: num_shards(model) >= min(wanted, NUM_SHARDS), delay)  # noqa: B023 - called here alone
        if script.exit_code() == KILLED:
            lost = num_before - num_shards(model)
            kills.judge(f"{lost} of {num_before} shards are gone" if lost > 0 else "")
            kills.where[place_of_kill(model, num_before)] += 1
            plan.advance(1)
        else:
            ends.judge(what_is_wrong(script, ending, model, expected))
            remove_proof(model)
    for _ in range(2):
        script = start(folder)
        script.wait()
        ends.judge(what_is_wrong(script, ending, model, expected))
    return [kills, ends, look_for_leavings(model)]


def start(folder: Path) -> Script:
    return Script("evaluate.py", "--exhaustive", cwd=folder)


def unkilled_proof(folder: Path) -> tuple[int, dict[str, object], float]:
    """Let a proof come to its end and remove it; return its exit code, its certificate and the seconds of a shard."""
    started, script, model = time.monotonic(), start(folder), folder / "model"
    exit_code, certificate = script.wait(), certificate_of(model)
    assert len(certificate["shards"]) == NUM_SHARDS, script.ending()
    remove_proof(model)
    return exit_code, certificate, (time.monotonic() - started) / NUM_SHARDS


def num_shards(model: Path) -> int:
    """Count the shards that are there and can be read."""
    num_found = 0
    for path in (model / "proof").glob("shard-*.json"):
        with contextlib.suppress(ValueError):
            num_found += bool(json.loads(path.read_bytes()))
    return num_found


def certificate_of(model: Path) -> dict[str, object]:
    """Read a certificate, without what each start says of itself."""
    certificate = json.loads((model / CERTIFICATE).read_bytes())
    return {key: certificate[key] for key in certificate if key not in _OWN_TO_A_START}


def remove_proof(model: Path) -> None:
    """Have the next proof count from the beginning; what killed ones left behind stays."""
    (model / CERTIFICATE).unlink(missing_ok=True)
    for path in (model / "proof").glob("shard-*.json"):
        path.unlink()


def place_of_kill(model: Path, num_before: int) -> str:
    """Say how far a process had come when it was killed."""
    num_after = num_shards(model)
    if num_after == NUM_SHARDS:
        return "after the last shard"
    return "between shards of this start" if num_after > num_before else "before the first shard of this start"


def what_is_wrong(script: Script, exit_code: int, model: Path, expected: dict[str, object]) -> str:
    """Compare a proof that came to its end with the unkilled one; empty where nothing differs."""
    if script.exit_code() != exit_code:
        return script.ending()
    certificate = certificate_of(model)
    differing = [key for key in expected if certificate.get(key) != expected[key]]
    return f"the certificate has another {', '.join(differing)}" if differing else ""
