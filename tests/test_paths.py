"""A path is what was typed: in a config file, in an override, in an option of any script."""

import argparse
import json
import os
from pathlib import Path

import pytest

from simple_llm import command_line
from simple_llm.config.settings import Storage, to_yaml, TrainConfig, typed_path
from simple_llm.config.strict_yaml import parse_yaml
from tests.pipeline import write_configs

HOME = Path("/home of/somebody")
# As a word of a command line, and what it means.
TYPED = [
    ("~/x.txt", HOME / "x.txt"),
    ("~", HOME),
    ("~/a b #c", HOME / "a b #c"),
    ("a~b", Path("a~b")),
    ("./~", Path("./~")),
    ("./~/x", Path("~/x")),
    ("a #b", Path("a #b")),
    (" a ", Path(" a ")),
    ("#", Path("#")),
    ("'in quotes'", Path("in quotes")),
    *((text, Path(text)) for text in ("2024", "010", "1e5", "0x1f", "1:30", "-5", "null", "true", "2024-01-01", "=")),
    *(
        (text, Path(text))
        for text in ("a: b", "[x", "{y}", "!z", "&a", "*a", "%c", "@d", "`e", "- f", "a\tb", "\u00e9")
    ),
]
UNQUOTED = [one for one in TYPED if one[0] != "'in quotes'"]


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("HOME", str(HOME))


@pytest.mark.parametrize(("text", "path"), TYPED)
def test_fault_37_an_override_is_the_path_that_was_typed(load, text, path):
    data, train = load(f"storage.path=x/{text}", f"paths.model={text}")
    assert (data.storage.path, train.paths.model) == (Path("x") / text, path)


@pytest.mark.parametrize(("text", "path"), UNQUOTED)
def test_fault_37_a_path_in_quotes_in_a_file_is_the_path_that_was_typed(load, text, path):
    data, train = load(
        data=f"storage: {{path: {json.dumps('x/' + text)}}}", train=f"paths: {{model: {json.dumps(text)}}}"
    )
    assert (data.storage.path, train.paths.model) == (Path("x") / text, path)


@pytest.mark.parametrize("text", ["2024", "1e5", "~", "true", "[a]"])
def test_fault_37_what_yaml_reads_as_something_else_is_refused_with_the_remedy(errors, text):
    _, line = errors(train=f"paths: {{model: {text}}}")
    assert "paths.model: expected a path, in quotes where it looks like a number" in line


@pytest.mark.parametrize(("text", "path"), UNQUOTED)
def test_fault_37_a_recorded_path_is_read_back_as_it_was(text, path):
    train = TrainConfig(paths={"model": text})
    assert TrainConfig(**parse_yaml(to_yaml(train))) == train
    assert Storage(path=path).path == path  # a Path is taken as it is


def test_fault_37_nobodys_folder_is_refused(errors):
    assert "paths.model: expected a path" in errors("paths.model=~no-such-user/x")[1]
    with pytest.raises(argparse.ArgumentTypeError, match="expected a path, got '~no-such-user/x'"):
        command_line.path("~no-such-user/x")


@pytest.mark.parametrize(
    ("script", "option", "name"),
    [
        ("data_generator.py", "--data-config", "data_config"),
        ("tokenizer.py", "--train-config", "train_config"),
        ("inference.py", "--model", "model"),
        ("visualize.py", "--output", "output"),
        ("inference.py", "--input", "input"),
        ("trainer.py", "--resume", "resume"),
        ("web/build.py", "--output", "output"),
    ],
)
def test_fault_37_an_option_that_a_shell_left_alone_is_the_users_own_folder(
    call_script, tmp_path, monkeypatch, script, option, name
):
    write_configs(tmp_path)

    def keep(main, options, **_):
        seen.append(getattr(options, "arguments", options))

    seen = []
    monkeypatch.setattr(command_line, "run", keep)
    if name.endswith("config"):
        monkeypatch.setattr(command_line, "load_configs", lambda *paths: (seen.append(paths), command_line.fail("", 9)))
    others = ["--model=m"] if name == "output" else []
    call_script(script, f"{option}=~/x y", *others, cwd=tmp_path)
    found = map(str, seen[0]) if isinstance(seen[0], tuple) else [str(getattr(seen[0], name))]
    assert os.fspath(HOME / "x y") in found


def test_fault_37_the_rows_are_where_they_were_asked_for(call_script, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write_configs(tmp_path)
    for text, place in (("~/x #1.txt", "home/x #1.txt"), ("010", "010")):
        done = call_script("data_generator.py", f"storage.path={text}", "storage.num_sequences=100", cwd=tmp_path)
        assert done.exit_code == 0, done.stderr
        assert (tmp_path / place).is_file()
    assert sorted(os.listdir(tmp_path)) == sorted(
        ["010", "010.manifest.json", "home", "data_config.yaml", "train_config.yaml"]
    )


def test_a_path_that_begins_otherwise_is_as_it_was():
    assert typed_path("../a/~/b") == Path("../a/~/b")
