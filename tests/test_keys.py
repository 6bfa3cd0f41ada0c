"""What was made before a key came or went is valid after it, and the same.

assets/first_keys.zip is what generator, tokenizer and trainer left at commit 26a1c64: a dataset of 300 rows, a
finished model of 1,400 weights, and the checkpoint of step 2 of 4. Every key since then has to leave it valid.
"""

import json
import zipfile
from pathlib import Path

import pytest

from simple_llm.config import keys, loading, settings
from simple_llm.config.keys import differences, RETIRED, Retired
from simple_llm.config.loading import load_configs
from simple_llm.data.dataset import read_manifest
from simple_llm.errors import ArtefactError
from simple_llm.model.folder import load_model
from simple_llm.sharing.model_card import read_card_facts
from tests.finished_run import make_unfinished
from tests.model_folders import refusal, vouch_again
from tests.pipeline import REPOSITORY

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("blank_pictures")]


class Proportions(settings.Section):
    add: bool = True


class Numbers(settings.Numbers):
    signed: bool = False


class DataConfig(settings.DataConfig):
    numbers: Numbers = Numbers()
    proportions: Proportions = Proportions()


class AttentionWindow(settings.AttentionWindow):
    above: int = 7


class Model(settings.Model):
    attention_window: AttentionWindow | None = None


class Training(settings.Training):
    flavour: int | None = None


class TrainConfig(settings.TrainConfig):
    model: Model = Model()
    training: Training = Training()


# Of the classes above: a key in a section of each file, and a section.
ANOTHER_VALUE = {"numbers.signed": True, "proportions.add": False, "training.flavour": 3}
RETIRED_SINCE = {
    "numbers.signed": Retired((False,), "no number has a sign; delete it"),
    "proportions.add": Retired((True,), "every row is a sum; delete it"),
    "training.flavour": Retired((None, 0), "training has no flavour; delete it"),
}


def have_new_keys(patch: pytest.MonkeyPatch) -> None:
    """Let the settings have keys that nothing has heard of."""
    for module in (keys, loading):
        patch.setattr(module, "DataConfig", DataConfig)
        patch.setattr(module, "TrainConfig", TrainConfig)


@pytest.fixture
def old(tmp_path) -> Path:
    """The folder that the scripts ran in at 26a1c64."""
    with zipfile.ZipFile(Path(__file__).with_name("assets") / "first_keys.zip") as archive:
        archive.extractall(tmp_path / "old")
    return tmp_path / "old"


@pytest.fixture
def with_keys(old, monkeypatch, call_script):
    """The same folder, made anew when there were more keys, which are retired since then."""

    def make(*overrides: str) -> Path:
        with monkeypatch.context() as patch:
            have_new_keys(patch)
            for name, *options in (("data_generator.py", "--force"), ("tokenizer.py",), ("trainer.py", "--fresh")):
                called = call_script(name, *options, *overrides, cwd=old)
                assert called.exit_code == 0, called.stderr
        for name, retired in RETIRED_SINCE.items():
            monkeypatch.setitem(RETIRED, name, retired)
        return old

    return make


@pytest.fixture(params=["as they are", "with new keys", "with keys retired"])
def before(request, old, monkeypatch) -> Path:
    """A folder from before the settings of today: as these are, with pretended new keys, or having had such keys."""
    if request.param == "with new keys":
        have_new_keys(monkeypatch)
    if request.param == "with keys retired":
        return request.getfixturevalue("with_keys")()
    return old


def said_by(path: Path) -> dict:
    return json.loads(path.read_bytes())


def configs_in(folder: Path, *overrides: str):
    paths = folder / "data_config.yaml", folder / "train_config.yaml"
    return loading.load_configs(*paths, [f"storage.path={folder / 'sequences.txt'}", *overrides])


# ---- Valid and the same ---------------------------------------------------------------------------


def test_a_model_folder_is_read_with_what_keys_mean_today(before):
    loaded = load_model(before / "model")
    facts = read_card_facts(before / "model")
    assert (loaded.data, loaded.train) == (facts.data, facts.train)
    data, train = configs_in(before)
    assert (loaded.data.numbers, loaded.data.split) == (data.numbers, data.split)
    assert (loaded.train.model, loaded.train.training) == (train.model, train.training)


def test_what_a_proof_is_about_is_the_same(before):
    files = said_by(before / "model" / "manifest.json")["files"]
    hashes = load_model(before / "model").hashes
    assert hashes["config_sha256"] == files["config.json"]["sha256"]
    assert hashes["model_sha256"] == files["model.safetensors"]["sha256"]
    assert hashes["tokenizer_sha256"] == said_by(before / "model" / "manifest.json")["settings"]["tokenizer sha256"]


def test_a_dataset_is_up_to_date(before, call_script):
    written = {path.name: path.read_bytes() for path in before.glob("sequences.txt*")}
    assert read_manifest(configs_in(before)[0]).sha256 == said_by(before / "sequences.txt.manifest.json")["sha256"]
    assert "up to date: 300 rows" in call_script("data_generator.py", cwd=before).stdout
    assert {path.name: path.read_bytes() for path in before.glob("sequences.txt*")} == written


def test_a_finished_run_is_one_of_this_config(before, call_script):
    called = call_script("trainer.py", cwd=before)
    assert called.exit_code == 0, called.stderr
    assert "holds the finished model of this config" in called.stderr


@pytest.mark.parametrize("option", ["found", "named"])
def test_an_unfinished_run_goes_on_and_is_the_same_by_its_hash(before, call_script, option):
    checkpoints = before / "model" / "checkpoints"
    make_unfinished(before)
    for path in checkpoints.glob("step-4"):
        path.rename(before / "step-4")
    resume = ["--resume", "model/checkpoints/step-2"] if option == "named" else []
    called = call_script("trainer.py", *resume, cwd=before)
    assert called.exit_code == 0, called.stderr
    assert "going on from model/checkpoints/step-2" in called.stderr
    begun, ended = (said_by(checkpoints / name / "manifest.json") for name in ("step-2", "step-4"))
    assert ended["settings"] == begun["settings"] == said_by(before / "model" / "manifest.json")["settings"]
    assert ended["config_sha256"] == begun["config_sha256"]
    assert f'{{"config sha256": "{begun["config_sha256"]}", ' in (before / "model" / "run.log").read_text()
    assert load_model(before / "model").manifest["step"] == 4


# ---- Another run ----------------------------------------------------------------------------------


def test_another_value_of_a_new_key_makes_another_dataset(old, monkeypatch):
    have_new_keys(monkeypatch)
    with pytest.raises(ArtefactError) as caught:
        read_manifest(configs_in(old, "numbers.signed=true", "proportions.add=false")[0])
    _, *lines = str(caught.value).splitlines()
    assert lines == ["  numbers.signed: False there, True here", "  proportions.add: True there, False here"]


@pytest.mark.parametrize("is_finished", [True, False])
def test_another_value_of_a_new_key_makes_another_run(old, monkeypatch, call_script, is_finished):
    have_new_keys(monkeypatch)
    if not is_finished:
        make_unfinished(old)
    called = call_script("trainer.py", "training.flavour=3", cwd=old)
    assert called.exit_code == 2
    assert "belongs to a run with other settings" in called.stderr
    assert called.stderr.splitlines()[1:] == ["  training.flavour: None there, 3 here"]


def test_what_a_retired_key_did_is_no_longer_done_so_it_is_refused_where_it_did_something(with_keys, call_script):
    old = with_keys(*(f"{name}={str(value).lower()}" for name, value in ANOTHER_VALUE.items()))
    assert "numbers.signed: no longer a setting: no number has a sign; delete it" in refusal(old / "model")
    with pytest.raises(ArtefactError) as caught:
        read_manifest(configs_in(old)[0])
    assert str(caught.value).splitlines()[1:] == [
        "  numbers.signed: True there, no longer a setting: no number has a sign; delete it",
        "  proportions.add: False there, no longer a setting: every row is a sum; delete it",
    ]
    assert call_script("data_generator.py", cwd=old).exit_code == 0
    called = call_script("trainer.py", cwd=old)
    assert called.exit_code == 2
    assert "  training.flavour: 3 there, no longer a setting: training has no flavour; delete it" in called.stderr


def test_a_key_that_went_without_a_word_makes_old_folders_unreadable(with_keys, monkeypatch):
    old = with_keys()
    monkeypatch.delitem(RETIRED, "training.flavour")
    assert "training.flavour: unknown key" in refusal(old / "model")


# ---- What a user is told --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("data", "numbers: {signed: false}", "numbers.signed: no longer a setting: no number has a sign; delete it"),
        ("data", "numbers: {signed: true}", "numbers.signed: no longer a setting: no number has a sign; delete it"),
        ("data", "proportions: {add: true}", "proportions: no longer a setting: every row is a sum; delete it"),
        (
            "train",
            "training: {flavour: 3}",
            "training.flavour: no longer a setting: training has no flavour; delete it",
        ),
        ("train", "training: {flavor: 3}", "training.flavor: unknown key; known are "),
    ],
)
def test_a_config_that_names_a_retired_key_is_told_in_one_line_what_became_of_it(
    errors, tmp_path, monkeypatch, file, content, told
):
    for name, retired in RETIRED_SINCE.items():
        monkeypatch.setitem(RETIRED, name, retired)
    header, line = errors(**{file: content})
    assert header == f"{tmp_path / file}.yaml: 1 bad setting"
    assert line.startswith(f"  {told}")


@pytest.mark.parametrize("name", RETIRED_SINCE)
def test_an_override_that_names_a_retired_key_is_told_in_one_line_what_became_of_it(errors, monkeypatch, name):
    for each, retired in RETIRED_SINCE.items():
        monkeypatch.setitem(RETIRED, each, retired)
    assert errors(f"{name}=true") == [
        "command line: 1 bad setting",
        f"  {name}: no longer a setting: {RETIRED_SINCE[name].what_to_do}",
    ]


def test_the_list_names_no_key_there_is_and_says_each_in_a_line():
    for name, retired in RETIRED.items():
        assert list(differences({name: "anything"}, {})) != [], f"{name} with any value"
        assert keys._default(name) is None, f"{name} is a setting"
        assert retired.what_to_do.isprintable() and len(retired.what_to_do) < 200
    load_configs(REPOSITORY / "data_config.yaml", REPOSITORY / "train_config.yaml", [])


# ---- What differs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "here", "lines"),
    [
        ({"model.attention_window": None}, {"model.attention_window": None}, []),
        ({"model.attention_window": {"left": 0}}, {"model.attention_window": {"left": 0, "right": 1, "above": 7}}, []),
        (
            {"model.attention_window": {"left": 0, "right": 2}},
            {"model.attention_window": {"left": 0, "right": 1, "above": 8}},
            ["model.attention_window.above: 7 there, 8 here", "model.attention_window.right: 2 there, 1 here"],
        ),
        ({"training.restarts": {"every": 2}}, {"training.restarts": {"first": 1, "every": 2}}, ["first: None there"]),
        ({}, {"model": {"n_layer": 8}, "proportions": {"add": False}}, ["proportions.add: True there, False here"]),
        ({}, {"storage": {"path": "../simple-llm-data/sequences.txt"}}, []),
        ({"a.later.key": 1}, {}, ["a.later.key: 1 there, None here"]),
        ({"a": {"later": {"key": 1}}}, {}, ["a.later.key: 1 there, None here"]),
        ({"a": None, "b": {}}, {}, []),
        ({"data sha256": "a"}, {"data sha256": "b"}, ["data sha256: a there, b here"]),
        ({}, {"data sha256": "b"}, ["data sha256: None there, b here"]),
        ({"old.key": 1, "older": {"key": None}}, {}, []),
        ({"old.key": 2}, {}, ["old.key: 2 there, no longer a setting: never 2"]),
        ({"older": {"key": 2}}, {}, ["older.key: 2 there, no longer a setting: never 2"]),
        ({"older": {"key": 1, "other": 3}}, {"older": {"other": 3}}, []),
    ],
)
def test_what_differs_is_named_by_its_whole_name(monkeypatch, there, here, lines):
    have_new_keys(monkeypatch)
    for name in ("old.key", "older.key"):
        monkeypatch.setitem(RETIRED, name, Retired((1, None), "never 2"))
    found = list(differences(there, here))
    assert len(found) == len(lines)
    assert all(line in one for line, one in zip(lines, found, strict=True)), found


def test_what_config_json_leaves_out_has_its_default(old):
    folder = old / "model"
    config = said_by(folder / "config.json")
    del config["max_position_offset"]
    (folder / "config.json").write_text(json.dumps(config))
    vouch_again(folder)
    assert load_model(folder).model.config.max_position_offset == 0
    del config["tokens_per_step"]
    (folder / "config.json").write_text(json.dumps(config))
    vouch_again(folder)
    assert "config.json has tokens_per_step = 1 where the folder's other files say 2" in refusal(folder)
