import json
import re
import shlex
import shutil
import time
from pathlib import Path

import httpx2
import huggingface_hub
import pytest
from safetensors.torch import load_file

from simple_llm.errors import ArtefactError, HubError, UsageError
from simple_llm.model.folder import KEPT_MODEL, load_model
from simple_llm.model.network import load_network
from simple_llm.sharing.fetching import fetch_model
from simple_llm.sharing.hub import push_folder, require_upload
from tests.finished_run import make_unfinished
from tests.forked import fork_script, fork_stranger
from tests.hub_server import HubServer, LOST, RESET, TOKEN
from tests.paper_model import ON_PAPER
from tests.pipeline import write_configs

UPLOADED = {
    *("model.safetensors", "config.json", "generation_config.json", "modeling_simple_llm.py"),
    "pipeline_simple_llm.py",
    *("tokenizer.json", "tokenizer_config.json", "tokenization_simple_llm.py"),
    *("data_config.yaml", "train_config.yaml", "manifest.json", "README.md"),
    *("metrics.jsonl", "training_curve.png", "evaluation.json", "evaluation.png"),
}
pytestmark = [
    pytest.mark.library,
    pytest.mark.usefixtures("blank_pictures"),
    pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning"),  # of the client library itself
]
PUSH = ("hub.push=true", "hub.repo_id=me/adder")
PUSH_ONLY = ("--push-only", "hub.repo_id=me/adder")


def files_with(secret: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def python_lines(card: str) -> str:
    [code] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return code


def uploads(requests: list[str]) -> list[str]:
    return [request for request in requests if request.startswith("PUT") or "/commit/" in request]


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Seconds that would have been slept."""
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


@pytest.fixture
def model(run_folder) -> Path:
    return run_folder / "model"


# ---- There and back -------------------------------------------------------------------------------


def test_fault_32_a_run_is_uploaded_by_the_allow_list_and_the_token_is_nowhere(finished_run, run_folder, tmp_path):
    model = run_folder / "model"
    for name in (".env", "notes.txt", "training_args.bin", "optimizer.pt"):
        (model / name).write_text("private")
    with HubServer() as hub:

        def there():
            hub.take_over(tmp_path)

        hub.refuse("POST .*/commit/", 429, times=1, Retry_After="1")
        done = fork_script("trainer.py", *PUSH, cwd=run_folder, before=there).end()
        assert done.exit_code == 0, done.stderr
        assert f"pushed to {hub.url}/me/adder/commit/" in done.stderr
        [asked] = hub.created
        assert asked["visibility"] == "private"
        uploaded = hub.files("me/adder")
        assert set(uploaded) == UPLOADED
        assert all(content == (model / name).read_bytes() for name, content in uploaded.items())
        assert uploaded["model.safetensors"] == (finished_run.folder / "model" / "model.safetensors").read_bytes()

        shutil.rmtree(run_folder / "model")
        asked = ("--model", "me/adder", "12+34", "0 + 255")
        answered = fork_script("inference.py", *asked, cwd=tmp_path, before=there).end()
        assert answered.exit_code == 0, answered.stderr
        assert answered.stdout == finished_run.done["inference.py"].stdout
        stranger = fork_stranger(python_lines(uploaded["README.md"].decode()), cwd=tmp_path, before=there).end()
        assert stranger.exit_code == 0, stranger.stderr
        assert stranger.stdout.startswith("255+127=")
    assert not [name for name, content in uploaded.items() if TOKEN.encode() in content]
    assert files_with(TOKEN, tmp_path) == []
    for process in (done, answered, stranger):
        assert TOKEN not in process.stdout + process.stderr


def test_an_uploaded_model_is_evaluated_to_the_same_counts(finished_run, run_folder, call_script, hub):
    assert call_script("trainer.py", *PUSH_ONLY, cwd=run_folder).exit_code == 0
    called = call_script("evaluate.py", "--model", "me/adder", "--samples", "100", "--json", cwd=run_folder)
    there = json.loads(called.stdout.splitlines()[-1])
    here = json.loads(finished_run.done["evaluate.py"].stdout.splitlines()[-1])
    timed = ("date", "runs")
    assert {**there, **dict.fromkeys(timed)} == {**here, **dict.fromkeys(timed)}


def test_fault_20_without_a_push_nothing_is_asked_of_anyone(finished_run):
    assert {
        "data_generator.py",
        "tokenizer.py",
        "trainer.py",
        "evaluate.py",
        "inference.py",
    } <= finished_run.done.keys()
    assert finished_run.requests == []


def test_fault_32_without_a_push_the_token_is_written_nowhere_either(finished_run):
    assert files_with(TOKEN, finished_run.folder) == []
    assert not [done for done in finished_run.done.values() if TOKEN in done.stdout + done.stderr]


# ---- The finished model alone ---------------------------------------------------------------------


def test_push_only_uploads_and_a_second_time_has_nothing_to_upload(finished_run, run_folder, call_script, hub):
    (run_folder / "sequences.txt").unlink()  # it does not train
    called = call_script("trainer.py", *PUSH_ONLY, cwd=run_folder)
    assert called.exit_code == 0, called.stderr
    assert set(hub.files("me/adder")) == UPLOADED
    report = json.loads((run_folder / "model" / "evaluation.json").read_text())
    [_, commit] = hub.commits("me/adder")
    assert commit.message == f"step 12: {report['correct']:,} of 100 held-out problems exact"

    hub.requests.clear()
    again = call_script("trainer.py", *PUSH_ONLY, cwd=run_folder)
    assert again.exit_code == 0
    assert "nothing to push: me/adder holds all of it already" in again.stderr
    assert uploads(hub.requests) == []
    assert len(hub.commits("me/adder")) == 2


def test_a_later_report_is_uploaded_and_shown_and_one_about_other_weights_is_neither(model, hub):
    push_folder(model, "me/adder", False)
    here = load_model(model).sha256
    for name, sha256 in {"evaluation.json": "of other weights", "lengths.json": here, "attention.json": here}.items():
        report = {"model_sha256": sha256, "lengths": [], "trained_digits": 2, "base": 16}
        (model / name).write_text(json.dumps(report))
    (model / "attention_overview.png").write_bytes(b"a picture")
    hub.requests.clear()
    push_folder(model, "me/adder", False)
    assert set(hub.files("me/adder")) == UPLOADED - {"evaluation.json", "evaluation.png"} | {
        *("lengths.json", "attention.json", "attention_overview.png"),
    }
    card = hub.files("me/adder")["README.md"].decode()
    assert "attention_overview.png" in card
    assert "Digits of the longest operands in training: 2" in card
    assert "held-out problems exact" not in card
    assert [asked["visibility"] for asked in hub.created] == ["public", "public"]
    assert len([request for request in hub.requests if request.startswith("PUT")]) == 1  # the picture, not the weights


def test_what_others_put_into_the_repository_stays(model, hub):
    push_folder(model, "me/adder", True)
    theirs = {"NOTES.md": b"notes", "attention_by_hand/drawing.png": b"a drawing"}
    hub.add_commit("me/adder", "main", "by hand", {**hub.files("me/adder"), **theirs})
    (model / "evaluation.json").unlink()
    push_folder(model, "me/adder", True)
    assert theirs.items() <= hub.files("me/adder").items()
    assert "evaluation.json" not in hub.files("me/adder")


def test_only_a_finished_and_whole_model_is_pushed(run_folder, model, call_script, hub):
    assert call_script("trainer.py", "--push-only", cwd=run_folder).exit_code == 2  # where to?
    with (model / "config.json").open("a") as file:
        file.write(" ")
    damaged = call_script("trainer.py", *PUSH_ONLY, cwd=run_folder)
    assert damaged.exit_code == 3
    assert "config.json has" in damaged.stderr
    make_unfinished(run_folder)
    unfinished = call_script("trainer.py", *PUSH_ONLY, cwd=run_folder)
    assert unfinished.exit_code == 3
    assert "holds no finished model" in unfinished.stderr
    assert hub.requests == []


# ---- While training -------------------------------------------------------------------------------


def test_checkpoints_are_uploaded_to_branches_and_change_nothing_of_the_training(
    finished_run, run_folder, model, call_script, hub
):
    called = call_script("trainer.py", *PUSH, "hub.every=4", "--fresh", cwd=run_folder)
    assert called.exit_code == 0, called.stderr
    assert {branch for _, branch in hub.branches} == {"main", "step-4", "step-8"}
    assert files_with(TOKEN, run_folder) == []
    assert TOKEN not in called.stdout + called.stderr
    weights = (finished_run.folder / "model" / "model.safetensors").read_bytes()
    assert hub.files("me/adder")["model.safetensors"] == weights

    checkpoint = load_network(fetch_model("me/adder@step-8"))
    assert checkpoint.manifest["step"] == 8
    saved = load_file(model / "checkpoints" / "step-8" / "optimizer.safetensors")
    assert all(saved[f"{name}/mean"].equal(tensor) for name, tensor in checkpoint.model.named_parameters())
    card = hub.files("me/adder", "step-8")["README.md"].decode()
    assert "step 8 of at most 12" in card
    assert 'model="me/adder", revision="step-8"' in card
    metrics = [json.loads(line) for line in (model / "metrics.jsonl").read_text().splitlines()]
    [correct] = [line["num_correct"] for line in metrics if line["step"] == 8 and "num_correct" in line]
    [*_, commit] = hub.commits("me/adder", "step-8")
    assert commit.message == f"step 8: {correct} of 50 validation problems exact"


def test_a_checkpoint_that_cannot_be_uploaded_is_told_and_training_goes_on(
    finished_run, run_folder, model, call_script, hub
):
    hub.refuse("POST .*/branch/step-4", 403)
    called = call_script("trainer.py", *PUSH, "hub.every=4", "--fresh", cwd=run_folder)
    assert called.exit_code == 0
    assert re.search(r"warning: step 4 is not uploaded: the upload to me/adder failed: .*403", called.stderr)
    assert {branch for _, branch in hub.branches} == {"main", "step-8"}
    assert (model / "model.safetensors").read_bytes() == (
        finished_run.folder / "model" / "model.safetensors"
    ).read_bytes()


def test_a_model_that_works_on_paper_is_uploaded_with_all_its_code_while_it_learns_and_at_its_end(
    tmp_path, call_script, hub
):
    data = {
        "numbers": {"max": 3, "base": 2, "operands": 3},
        "operations": {"add": 0.25, "subtract": 0.25, "multiply": 0.25, "divide": 0.25},
        "storage": {"path": "sequences.txt", "num_sequences": 40},
        "sampling": {"uniform": 1.0, "lengths": 0.0, "carries": 0.0},
    }
    train = ON_PAPER.model_dump(mode="json")
    train["paths"]["model"] = "model"
    train["training"] |= {"max_steps": 2, "eval_every": 1, "save_every": 1, "eval_problems": 5}
    write_configs(tmp_path, data, train)
    for name in ("data_generator.py", "tokenizer.py", "trainer.py"):
        called = call_script(name, *PUSH, "hub.every=1", cwd=tmp_path)
        assert called.exit_code == 0, called.stderr
    assert {branch for _, branch in hub.branches} == {"main", "step-1"}
    shutil.rmtree(tmp_path / "model")
    for branch in ("main", "step-1"):
        assert {"pipeline_simple_llm.py", "verify.py", "modeling_simple_llm.py"} <= set(hub.files("me/adder", branch))
        card = hub.files("me/adder", branch)["README.md"].decode()
        assert "calculate(" in python_lines(card) and "verify.py" in card
        loaded = load_model(fetch_model(f"me/adder@{branch}"))
        assert [one.name for one in loaded.operations] == ["add", "subtract", "multiply", "divide"]
        assert loaded.manifest["step"] == {"main": 2, "step-1": 1}[branch]
    answered = call_script("inference.py", "--model", "me/adder", "3*2", "3/2", "1+2+3", cwd=tmp_path)
    assert answered.exit_code == 0, answered.stderr
    assert [line.partition("=")[0] for line in answered.stdout.splitlines()] == ["3*2", "3/2", "1+2+3"]


# ---- A Hub that fails -----------------------------------------------------------------------------

STEPS_OF_AN_UPLOAD = {
    "account": "GET /api/whoami",
    "repository": "POST /api/repos/create",
    "files": "POST .*/preupload/",
    "weights": "PUT /large/",
    "commit": "POST .*/commit/",
}


@pytest.mark.parametrize("step", STEPS_OF_AN_UPLOAD)
@pytest.mark.parametrize("status", [429, 500, 503, RESET])
def test_fault_18_a_hub_that_fails_for_a_while_is_asked_again(model, hub, waits, status, step):
    hub.refuse(STEPS_OF_AN_UPLOAD[step], status, times=2, **({"Retry_After": "7"} if status == 429 else {}))
    require_upload("me/adder")
    assert push_folder(model, "me/adder", True)
    assert set(hub.files("me/adder")) == UPLOADED
    assert len(waits) == 2
    if status == 429:
        assert min(waits) >= 7


def test_a_commit_whose_answer_is_lost_is_not_made_twice(model, hub, waits):
    push_folder(model, "me/adder", True)
    (model / "evaluation.json").unlink()
    hub.refuse("POST .*/commit/", LOST, times=1)
    assert push_folder(model, "me/adder", True) == f"{hub.url}/me/adder/commit/{hub.commits('me/adder')[-1].sha}"
    assert len(waits) == 1
    assert len(hub.commits("me/adder")) == 3  # the first one is empty
    assert "evaluation.json" not in hub.files("me/adder")


def test_fault_18_a_hub_that_keeps_failing_ends_with_6_and_the_command_to_try_again(
    finished_run, run_folder, call_script, hub, waits
):
    hub.refuse("POST .*/commit/", 500)
    called = call_script("trainer.py", *PUSH, cwd=run_folder)
    assert called.exit_code == 6
    assert len([request for request in hub.requests if "/commit/" in request]) == 6
    assert waits == [1, 2, 4, 8, 8]
    assert "the model in model is intact" in called.stderr
    assert TOKEN not in called.stderr

    hub.refusals.clear()
    _, *command = shlex.split(re.search(r"`(python3 trainer.py .*)` tries again", called.stderr)[1])
    assert call_script(*command, cwd=run_folder).exit_code == 0
    weights = (finished_run.folder / "model" / "model.safetensors").read_bytes()
    assert hub.files("me/adder")["model.safetensors"] == weights


def test_fault_18_a_hub_that_does_not_answer_in_time_is_asked_again(hub, waits, monkeypatch):
    real, late = huggingface_hub.HfApi.whoami, [httpx2.ReadTimeout("late"), httpx2.ConnectTimeout("late")]

    def whoami(self):
        if late:
            raise late.pop()
        return real(self)

    monkeypatch.setattr(huggingface_hub.HfApi, "whoami", whoami)
    require_upload("me/adder")
    assert waits == [1, 2]


def test_fault_18_nobody_waits_an_hour_for_a_busy_hub(model, hub, waits):
    hub.refuse("POST .*/commit/", 429, Retry_After="3600")
    with pytest.raises(HubError, match="429"):
        push_folder(model, "me/adder", True)
    assert waits == []


def test_what_is_forbidden_is_not_asked_again(model, hub, waits):
    hub.refuse("POST /api/repos/create", 403)
    with pytest.raises(HubError, match=r"the upload to me/adder failed: .*403"):
        push_folder(model, "me/adder", True)
    assert waits == []
    assert uploads(hub.requests) == []


def test_a_hub_that_fails_when_asked_about_the_token_ends_with_6(run_folder, call_script, hub, waits):
    hub.refuse("GET /api/whoami", 500)
    called = call_script("trainer.py", *PUSH, "--fresh", cwd=run_folder)
    assert called.exit_code == 6
    assert "the Hub cannot be asked about the token" in called.stderr
    assert (run_folder / "model" / "manifest.json").exists()


def test_a_hub_that_cannot_be_reached_is_no_bug_of_ours(hub, monkeypatch, waits):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(HubError, match="the Hub cannot be reached"):
        require_upload("me/adder")


# ---- What is refused before training --------------------------------------------------------------


@pytest.mark.parametrize("script_options", [PUSH, (*PUSH, "--fresh"), PUSH_ONLY])
def test_fault_19_a_push_without_a_token_is_refused_before_anything_is_done(
    finished_run, run_folder, call_script, hub, monkeypatch, script_options
):
    monkeypatch.setenv("HF_TOKEN", "")
    called = call_script("trainer.py", *script_options, cwd=run_folder)
    assert called.exit_code == 2
    assert "there is no token; set HF_TOKEN" in called.stderr
    assert hub.requests == []
    model = finished_run.folder / "model" / "model.safetensors"
    assert (run_folder / "model" / "model.safetensors").read_bytes() == model.read_bytes()


def test_fault_19_a_token_that_the_hub_refuses_is_refused_and_not_shown(run_folder, call_script, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_forged")
    called = call_script("trainer.py", *PUSH, "--fresh", cwd=run_folder)
    assert called.exit_code == 2
    assert "does not accept the token" in called.stderr
    assert "hf_forged" not in called.stdout + called.stderr
    once_a_day = "GET /api/agent-harnesses"  # asked by the client library for its own use
    assert [one for one in hub.requests if one != once_a_day] == ["GET /api/whoami-v2"]
    assert (run_folder / "model" / "manifest.json").exists()


def test_fault_19_a_token_that_may_only_read_is_refused(hub):
    require_upload("me/adder")
    hub.role = "read"
    with pytest.raises(UsageError, match="the token may only read"):
        require_upload("me/adder")


def test_a_name_that_no_repository_can_have_is_refused(hub):
    with pytest.raises(UsageError, match=r"hub.repo_id: .*'me/a..b'"):
        require_upload("me/a..b")
    assert hub.requests == []


def test_a_large_file_that_cannot_be_sent_is_a_warning_while_training_and_ends_with_6(
    run_folder, model, call_script, hub
):
    hub.refuse("PUT /large/", 403)
    done = call_script("trainer.py", *PUSH, "hub.every=4", "--fresh", cwd=run_folder)
    assert "warning: step 4 is not uploaded: the upload to me/adder failed" in done.stderr
    assert done.exit_code == 6, done.stderr  # for the finished model, which is intact
    done = call_script("trainer.py", "--push-only", "hub.repo_id=me/adder", cwd=run_folder)
    assert done.exit_code == 6, done.stderr
    assert "403" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    load_model(model)


# ---- Models by name -------------------------------------------------------------------------------


def test_what_looks_like_a_path_is_not_asked_of_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "model").mkdir(parents=True)
    for name in ("here/model", "./no/model", "/no/model", "~/model", "a/b/c", "model"):
        assert fetch_model(name) == Path(name)
    assert hub.requests == []


@pytest.mark.parametrize("script", ["inference.py", "evaluate.py", "visualize.py", "web/build.py"])
def test_a_path_of_the_config_is_not_asked_of_the_hub_though_a_stranger_has_a_model_of_that_name_there(
    hub, model, tmp_path, call_script, script
):
    push_folder(model, "me/adder", True)
    hub.requests.clear()
    write_configs(tmp_path, train={"paths": {"model": "me/adder"}})
    done = call_script(script, cwd=tmp_path)
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == (
        "me/adder not found; run `python3 trainer.py` first, or name a model with --model: "
        f"{KEPT_MODEL} is a calculator that is proved already\n"
    )
    assert hub.requests == []


@pytest.mark.parametrize("name", ["me/nothing", "me/adder@step-3", "me/a..b"])
def test_a_repository_or_branch_that_is_not_there_is_named(hub, model, name):
    push_folder(model, "me/adder", True)
    with pytest.raises(ArtefactError, match=f"{name} is neither a folder nor a repository of the Hub"):
        fetch_model(name)
