"""Both YAML files and the command line's overrides -> a DataConfig and a TrainConfig, or every error at once.

train_config.yaml: 3 bad settings
  model.n_layr: unknown key, did you mean n_layer?
  training.max_steps: expected a whole number, at least 1, got 'many'
  model.n_embd: 250 is not a multiple of model.n_head = 4
"""

import difflib
import types
import typing
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from simple_llm.config.conflicts import Conflict, conflicts
from simple_llm.config.keys import as_of_today, retirement, section_in
from simple_llm.config.settings import DataConfig, TrainConfig
from simple_llm.config.strict_yaml import MAX_BYTES, parse_yaml, shown, shown_key, StrictYamlError, TOO_LARGE
from simple_llm.errors import ConfigError

COMMAND_LINE = "command line"
_QUOTES = "'\""  # with which a path is text in YAML
MOST_LINES = 40  # of a file; both together have some fifty settings

Tree = dict[str, object]


class _Problems:
    """Error lines by the place the user has to look at: a file or the command line."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {}

    def add(self, place: str, line: str) -> None:
        self.lines.setdefault(place, []).append(line)

    def raise_if_any(self) -> None:
        if not self.lines:
            return
        report = []
        for place, lines in self.lines.items():
            report.append(f"{place}: {len(lines)} bad setting{'s' if len(lines) > 1 else ''}")
            report += [f"  {line}" for line in lines[:MOST_LINES]]
            report += [f"  and {len(lines) - MOST_LINES:,} more"] * (len(lines) > MOST_LINES)
        raise ConfigError("\n".join(report))


def load_configs(
    data_path: Path, train_path: Path, overrides: list[str], are_recorded: bool = False
) -> tuple[DataConfig, TrainConfig]:
    """Read, override and check both configurations.

    Args:
        data_path: data_config.yaml.
        train_path: train_config.yaml.
        overrides: `section.key=value` each, the value in YAML.
        are_recorded: a run left these files; keys that were retired since are passed over where they changed nothing.

    Raises:
        ConfigError: naming every bad setting of both files and of the overrides.
    """
    problems = _Problems()
    trees = [_read_tree(data_path, problems), _read_tree(train_path, problems)]
    if are_recorded:
        trees = [as_of_today(tree) for tree in trees]
    models, paths = (DataConfig, TrainConfig), (data_path, train_path)
    # All that an unreadable file may have set is bad; so is each key that is refused below.
    bad_keys = {
        name
        for model, path in zip(models, paths, strict=True)
        if str(path) in problems.lines
        for name in model.model_fields
    }
    overridden = _apply_overrides(trees, overrides, problems)

    configs = []
    for model, tree, path in zip(models, trees, paths, strict=True):
        config, errors = _validate(model, tree)
        for key, message in errors:
            bad_keys.add(key)
            is_overridden = any(f"{key}.".startswith(f"{one}.") for one in overridden)
            problems.add(COMMAND_LINE if is_overridden else str(path), f"{shown_key(key)}: {message}")
        configs.append(config)
    data, train = configs

    for conflict in conflicts(data, train):
        if not _concerns(conflict, bad_keys):  # else it would blame a default
            key = conflict.keys[0]
            owner = data_path if key.split(".")[0] in DataConfig.model_fields else train_path
            place = COMMAND_LINE if _concerns(conflict, overridden) else str(owner)
            problems.add(place, f"{key}: {conflict.message}")
    problems.raise_if_any()
    return data, train


def _concerns(conflict: Conflict, keys: set[str]) -> bool:
    """Whether one of the keys is one of the conflict's, or the section of one."""
    return any(key.startswith(own) or own.startswith(f"{key}.") for key in keys for own in conflict.keys)


def _read_tree(path: Path, problems: _Problems) -> Tree:
    """Read a YAML file as nested dicts; on an error, note it and go on as if the file were empty."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise StrictYamlError(TOO_LARGE)
        tree = parse_yaml(content.decode("utf-8"))
    except FileNotFoundError:
        problems.add(str(path), "not found; run in the repository's folder or name another file")
    except OSError as error:
        problems.add(str(path), f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        problems.add(str(path), f"not UTF-8 text (byte {error.start})")
    except StrictYamlError as error:
        problems.add(str(path), str(error))
    else:
        if isinstance(tree, dict):
            return tree
        problems.add(str(path), "expected sections such as `model:` with their keys below, found " + shown(tree))
    return {}


def _apply_overrides(trees: list[Tree], overrides: list[str], problems: _Problems) -> set[str]:
    """Write `section.key=value` into the tree that owns the section; return the keys written."""
    written = set()
    owners = {
        name: (field, tree)
        for model, tree in zip((DataConfig, TrainConfig), trees, strict=True)
        for name, field in model.model_fields.items()
    }
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.split(".")
        if not equals or not 1 <= len(parts) <= 2 or not all(parts):
            problems.add(COMMAND_LINE, f"{shown_key(override)}: write section.key=value, for example training.seed=1")
            continue
        if parts[0] not in owners:
            what = retirement(key) or f"unknown section{_did_you_mean(parts[0], owners)}"
            problems.add(COMMAND_LINE, f"{shown_key(key)}: {what}")
            continue
        field, tree = owners[parts[0]]
        if len(parts) == 2 and not section_in(field.annotation):
            problems.add(COMMAND_LINE, f"{shown_key(key)}: {parts[0]} has no keys below it; write {parts[0]}=value")
            continue
        try:
            value = text if text and _is_path(field, parts[1:]) and text[0] not in _QUOTES else parse_yaml(text)
        except StrictYamlError as error:
            problems.add(COMMAND_LINE, f"{shown_key(key)}: {error}")
            continue
        owner = tree.setdefault(parts[0], {}) if len(parts) == 2 else tree
        if isinstance(owner, dict):  # else the section is bad, which is found later
            owner[parts[-1]] = value
            written.add(key)
    return written


def _is_path(field: FieldInfo, names: list[str]) -> bool:
    """Whether a key below a section holds a path, which is taken as it was typed: # and 010 mean nothing in it."""
    section = section_in(field.annotation)
    return bool(names and section) and getattr(section.model_fields.get(names[0]), "annotation", None) is Path


def _validate(model: type[BaseModel], tree: Tree) -> tuple[BaseModel, list[tuple[str, str]]]:
    """Check a tree; where keys are bad, name them and return a model in which they have their defaults."""
    try:
        return model.model_validate(tree), []
    except ValidationError as failure:
        errors = []
        for error in failure.errors():
            location = [part for part in error["loc"] if isinstance(part, str)]  # a list is shown by its key
            errors.append((".".join(location), _describe(error, model, location)))
            section = tree.get(location[0])
            if len(location) > 1 and isinstance(section, dict):
                tree[location[0]] = {key: value for key, value in section.items() if key != location[1]}
            else:
                tree.pop(location[0], None)
        return model.model_validate(tree), errors


def _describe(error: dict, model: type[BaseModel], location: list[str]) -> str:
    owner, field = _find_field(model, location)
    if error["type"] == "extra_forbidden":
        return retirement(".".join(location)) or "unknown key" + _did_you_mean(location[-1], owner.model_fields)
    if field is None or error["type"] == "model_type":
        return f"expected keys below it, such as {next(iter(owner.model_fields))}: ..., got {shown(error['input'])}"
    return f"expected {_expectation(field)}, got {shown(error['input'])}"


def _find_field(model: type[BaseModel], location: list[str]) -> tuple[type[BaseModel], FieldInfo | None]:
    """Follow section and key to the field; for a section itself, or an unknown key, the field is None."""
    for name in location:
        field = model.model_fields.get(name)
        if field is None:
            return model, None
        section = section_in(field.annotation)
        if section is None:
            return model, field
        model = section
    return model, None


_NOUNS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_NOUNS[Path] = "a path, in quotes where it looks like a number"


def _expectation(field: FieldInfo) -> str:
    """Say what a field takes: 'a whole number, at least 1'."""
    if field.description:
        return field.description
    choices = [field.annotation]
    if isinstance(field.annotation, types.UnionType):
        choices = list(typing.get_args(field.annotation))
    words = []
    for choice in choices:
        if typing.get_origin(choice) is typing.Literal:
            words.append("one of " + ", ".join(map(str, typing.get_args(choice))))
        elif choice is not type(None):
            words.append(", ".join([_NOUNS[choice], *_bounds(field)]))
    return " or ".join(words + ["null"] * (type(None) in choices))


def _bounds(field: FieldInfo) -> Iterator[str]:
    wordings = {
        "ge": "at least {:,}",
        "gt": "above {:,}",
        "le": "at most {:,}",
        "lt": "below {:,}",
        "min_length": "{} character or more",
        "max_length": "{} character at most",
        "pattern": "of the form {}",
    }
    for constraint in field.metadata:
        for name, wording in wordings.items():
            bound = getattr(constraint, name, None)
            if bound is not None:
                yield wording.format(bound)


def _did_you_mean(word: str, known: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
