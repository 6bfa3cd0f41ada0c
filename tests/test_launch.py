"""What a launcher says of a process has to be whole: one that is alone by mistake would write nothing, or too much."""

import os

import pytest

from simple_llm.errors import UsageError
from simple_llm.files.names import WEIGHTS
from simple_llm.processes import Processes, processes_of_torchrun, require_whole_launch
from tests.finished_run import make_unfinished
from tests.test_trainer import content

WHOLE = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "node0",
    "MASTER_PORT": "29500",
}
OTHERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


@pytest.fixture
def launch(monkeypatch):
    """Set a launcher's variables, and no others."""

    def say(variables: dict[str, str]) -> None:
        for name in (*WHOLE, *OTHERS):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return say


def refusal(**options) -> str:
    with pytest.raises(UsageError) as caught:
        require_whole_launch(**options)
    return str(caught.value)


def test_none_and_all_of_them_are_whole(launch):
    launch({})
    require_whole_launch()
    assert processes_of_torchrun() == Processes(0, 1)
    launch(WHOLE)
    require_whole_launch()
    assert processes_of_torchrun() == Processes(3, 4)


@pytest.mark.parametrize("names", [[one] for one in WHOLE] + [[*WHOLE][:count] for count in range(2, 6)])
def test_fault_36_some_of_them_are_refused_and_all_are_named(launch, names):
    launch({name: WHOLE[name] for name in names})
    message = refusal()
    assert all(f"{name}='{WHOLE[name]}'" in message for name in names)
    assert f"and not {', '.join(name for name in WHOLE if name not in names)};" in message
    assert f"`unset {' '.join(names)}`" in message


@pytest.mark.parametrize("missing", WHOLE)
def test_fault_36_all_but_one_are_some(launch, missing):
    launch({name: value for name, value in WHOLE.items() if name != missing})
    assert f"and not {missing};" in refusal()


@pytest.mark.parametrize("value", ["", " ", "one", "-1", "1.0", "\u0662"])
@pytest.mark.parametrize("name", [name for name in WHOLE if name != "MASTER_ADDR"])
def test_fault_36_what_is_no_number_is_refused(launch, name, value):
    launch({**WHOLE, name: value})
    assert f": {name} cannot be so;" in refusal()


@pytest.mark.parametrize(
    "changed",
    [
        {"RANK": "4"},
        {"WORLD_SIZE": "0"},
        {"WORLD_SIZE": "3"},
        {"LOCAL_RANK": "2"},
        {"LOCAL_WORLD_SIZE": "5"},
        {"LOCAL_WORLD_SIZE": "0"},
        {"RANK": "0"},
        {"MASTER_PORT": "0"},
        {"MASTER_PORT": "65536"},
    ],
)
def test_fault_36_what_cannot_be_true_together_is_refused(launch, changed):
    launch(WHOLE | changed)
    message = refusal()
    assert "they contradict each other" in message
    assert all(f"{name}=" in message for name in WHOLE)


def test_fault_36_an_address_that_is_empty_is_refused(launch):
    launch({**WHOLE, "MASTER_ADDR": ""})
    assert "MASTER_ADDR cannot be so" in refusal()


@pytest.mark.parametrize("name", OTHERS)
def test_fault_36_several_processes_of_another_launcher_are_refused_unless_torchrun_is_between(launch, name):
    launch({name: "2"})
    assert f"{name}=2" in refusal()
    launch({name: "2", **WHOLE})
    require_whole_launch()
    launch({name: "1"})
    require_whole_launch()


def test_shards_go_through_files_so_a_place_among_others_is_enough_for_them(launch):
    launch({"RANK": "1", "WORLD_SIZE": "2"})
    require_whole_launch(meets=False)
    launch({"RANK": "1"})
    assert "and not WORLD_SIZE;" in refusal(meets=False)


@pytest.mark.parametrize("variables", [{"RANK": "1"}, {"RANK": ""}, {"WORLD_SIZE": "2"}, WHOLE | {"WORLD_SIZE": "3"}])
def test_fault_36_no_script_starts_and_nothing_is_written(run_folder, call_script, launch, variables):
    make_unfinished(run_folder)
    launch(variables)
    before = content(run_folder)
    called = call_script("trainer.py", cwd=run_folder)
    assert (called.exit_code, called.stdout) == (2, "")
    assert "a launcher says " in called.stderr and len(called.stderr.splitlines()) == 1
    assert content(run_folder) == before
    assert not (run_folder / "model" / WEIGHTS).exists()


def test_fault_36_nor_is_anything_measured_or_pushed(run_folder, call_script, launch):
    launch({"RANK": "1"})
    for name, *arguments in (
        ("evaluate.py", "--model", "model", "--samples", "20"),
        ("evaluate.py", "--model", "model", "--exhaustive"),
        ("trainer.py", "--push-only", "hub.repo_id=me/adder"),
        ("trainer.py",),
    ):
        called = call_script(name, *arguments, cwd=run_folder)
        assert (called.exit_code, called.stdout) == (2, ""), (name, called.stderr)
        assert os.environ["RANK"] == "1"
