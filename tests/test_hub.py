import shutil
from pathlib import Path

import huggingface_hub
import pytest

from simple_llm.errors import ArtefactError, HubError, UsageError
from simple_llm.hub import fetch_model, push_folder, require_token
from tests.hub_server import HubServer, TOKEN
from tests.pipeline import run_script

UPLOADED = {
    *("model.safetensors", "config.json", "generation_config.json", "modeling_simple_llm.py"),
    *("tokenizer.json", "tokenizer_config.json", "tokenization_simple_llm.py"),
    *("data_config.yaml", "train_config.yaml", "manifest.json", "README.md"),
    *("metrics.jsonl", "training_curve.png", "evaluation.json", "evaluation.png"),
}
PUSH = ("hub.push=true", "hub.repo_id=me/adder")


def files_with(secret: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub that this process talks to; what is stored on this machine for the real one is out of sight."""
    with HubServer() as server:
        client = huggingface_hub.HfApi(endpoint=server.url)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        for name in ("create_repo", "upload_folder"):
            monkeypatch.setattr(huggingface_hub, name, getattr(client, name))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


# ---- With a token ---------------------------------------------------------------------------------


def test_a_finished_run_is_uploaded_by_the_allow_list_and_answers_from_there(finished_run, run_folder, tmp_path):
    model = run_folder / "model"
    for name in (".env", "notes.txt", "training_args.bin", "optimizer.pt"):
        (model / name).write_text("private")
    with HubServer() as hub:
        environment = hub.environment(tmp_path)
        done = run_script("trainer.py", *PUSH, cwd=run_folder, **environment)
        assert done.returncode == 0, done.stderr
        assert f"pushed to {hub.url}/me/adder/commit/" in done.stderr
        [asked] = hub.created
        assert asked["visibility"] == "private"
        uploaded = hub.repositories["me/adder"]
        assert set(uploaded) == UPLOADED
        assert all(content == (finished_run.folder / "model" / name).read_bytes() for name, content in uploaded.items())

        shutil.rmtree(run_folder / "model")
        answered = run_script("inference.py", "--model", "me/adder", "12+34", "0 + 255", cwd=tmp_path, **environment)
        assert answered.returncode == 0, answered.stderr
        assert answered.stdout == finished_run.done["inference.py"].stdout
    assert not [name for name, content in uploaded.items() if TOKEN.encode() in content]
    assert files_with(TOKEN, tmp_path) == []
    assert TOKEN not in done.stdout + done.stderr + answered.stdout + answered.stderr


def test_without_a_push_nothing_is_asked_of_anyone_and_the_token_is_written_nowhere(finished_run):
    assert finished_run.requests == []
    assert files_with(TOKEN, finished_run.folder) == []
    assert not [done for done in finished_run.done.values() if TOKEN in done.stdout + done.stderr]


def test_a_refused_upload_leaves_the_model_and_says_how_to_try_again(finished_run, hub):
    hub.refusals["/api/repos/create"] = 403
    with pytest.raises(HubError, match=r"model in .*/model is intact, `hf upload me/adder .*` tries again") as caught:
        push_folder(finished_run.folder / "model", "me/adder", True, "a message")
    assert caught.value.exit_code == 6
    assert TOKEN not in str(caught.value)
    assert hub.repositories == {}


@pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # of the client library itself
def test_a_repository_is_updated_by_a_second_upload(finished_run, hub, tmp_path):
    model = Path(shutil.copytree(finished_run.folder / "model", tmp_path / "model"))
    push_folder(model, "me/adder", False, "first")
    (model / "evaluation.json").write_text("{}")
    push_folder(model, "me/adder", False, "second")
    assert hub.repositories["me/adder"]["evaluation.json"] == b"{}"
    assert [asked["visibility"] for asked in hub.created] == ["public", "public"]


def test_the_model_card_can_be_read_by_the_hub(finished_run):
    card = huggingface_hub.ModelCard.load(finished_run.folder / "model" / "README.md")
    assert card.data.license == "mit"
    assert card.data.pipeline_tag == "text-generation"
    assert "numbers from 0 to 255" in card.content
    assert "of 50 validation problems" in card.content


# ---- Without one ----------------------------------------------------------------------------------


@pytest.mark.parametrize("script_options", [PUSH, (*PUSH, "--fresh")])
def test_a_push_without_a_token_is_refused_before_anything_is_done(
    finished_run, run_folder, call_script, hub, monkeypatch, script_options
):
    monkeypatch.setenv("HF_TOKEN", "")
    called = call_script("trainer.py", *script_options, cwd=run_folder)
    assert called.exit_code == 2
    assert "there is no token; set HF_TOKEN" in called.stderr
    assert hub.requests == []
    model = finished_run.folder / "model" / "model.safetensors"
    assert (run_folder / "model" / "model.safetensors").read_bytes() == model.read_bytes()


def test_a_token_that_the_hub_does_not_know_is_refused_and_not_shown(run_folder, call_script, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_forged")
    called = call_script("trainer.py", *PUSH, "--fresh", cwd=run_folder)
    assert called.exit_code == 2
    assert "does not accept the token" in called.stderr
    assert "hf_forged" not in called.stdout + called.stderr
    assert hub.requests == ["GET /api/whoami-v2"]
    assert (run_folder / "model" / "manifest.json").exists()


@pytest.mark.parametrize("status", [403, 500])
def test_a_hub_that_fails_ends_with_6(run_folder, call_script, hub, status):
    hub.refusals["/api/whoami"] = status
    called = call_script("trainer.py", *PUSH, cwd=run_folder)
    assert called.exit_code == 6
    assert "the Hub cannot be asked about the token" in called.stderr


def test_a_hub_that_cannot_be_reached_is_no_bug_of_ours(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(HubError, match="the Hub cannot be reached"):
        require_token()


def test_a_missing_repository_id_is_a_bad_setting(run_folder, call_script, hub):
    called = call_script("trainer.py", "hub.push=true", cwd=run_folder)
    assert called.exit_code == 2
    assert "hub.repo_id: hub.push is true" in called.stderr
    assert hub.requests == []


# ---- Models by name -------------------------------------------------------------------------------


def test_what_looks_like_a_path_is_not_asked_of_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "model").mkdir(parents=True)
    for name in ("here/model", "./no/model", "/no/model", "~/model", "a/b/c", "model"):
        assert fetch_model(name) == Path(name)
    assert hub.requests == []


def test_a_repository_that_is_not_there_is_named(hub):
    with pytest.raises(ArtefactError, match="me/nothing is neither a folder nor a repository of the Hub"):
        fetch_model("me/nothing")
    assert hub.requests != []


def test_a_token_that_is_good_is_accepted(hub, monkeypatch):
    require_token()
    monkeypatch.setenv("HF_TOKEN", "hf_forged")
    with pytest.raises(UsageError):
        require_token()
