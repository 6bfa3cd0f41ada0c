"""Keys that come and go: what settings that were recorded at any time mean today.

A model folder, a run's checkpoints and a dataset hold every setting they were made with, and stay what they are when
the settings change:

    a key that was added since      has its default, which is therefore what was done before there was such a key
    a key that was retired since    is in RETIRED, and counts for nothing where it changed nothing

docs/CONFIG.md says which files to touch for either.
"""

from collections.abc import Iterator
from types import UnionType
from typing import get_args, NamedTuple

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from simple_llm.config.settings import DataConfig, TrainConfig


class Retired(NamedTuple):
    """A setting that is none any more.

    Attributes:
        harmless: the values with which it did what is always done now; what was recorded with another is refused.
        what_to_do: for who names it in a config, a sentence without its full stop: "all rows are shuffled; delete it".
    """

    harmless: tuple[object, ...]
    what_to_do: str


# By name; of a section that went, each of its keys.
RETIRED: dict[str, Retired] = {
    "training.half_depth_steps": Retired((None,), "all blocks learn from the first step; delete it"),
}


def as_of_today(recorded: dict, above: str = "") -> dict:
    """Leave out what was recorded of retired keys where it changed nothing, and sections that held nothing else.

    Args:
        recorded: nested, {"numbers": {"base": 16}}, or by full names, {"numbers.base": 16}.
        above: where in the config it is, "numbers.".
    """
    kept = {}
    for name, value in recorded.items():
        key = above + name
        if key in RETIRED and value in RETIRED[key].harmless:
            continue
        inner = as_of_today(value, f"{key}.") if isinstance(value, dict) else value
        if inner != {} or value == {}:
            kept[name] = inner
    return kept


def differences(recorded: dict, here: dict) -> Iterator[str]:
    """Say how recorded settings differ in meaning from those of today, a line a key.

    Args:
        recorded, here: as JSON, both nested or both by full names.
    """
    yield from _differences(as_of_today(recorded), here)


def _differences(there: dict, here: dict, above: str = "") -> Iterator[str]:
    for name in sorted(there.keys() | here.keys()):
        key = above + name
        one = there[name] if name in there else _default(key)
        other = here[name] if name in here else {} if isinstance(one, dict) else None
        if name not in there and isinstance(one, dict) and isinstance(other, dict):
            one = {inner: value for inner, value in one.items() if inner in other}  # no more than is compared
        if key in RETIRED:
            yield f"{key}: {one} there, {retirement(key)}"
        elif isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{key}.")
        elif one != other:
            yield f"{key}: {one} there, {other} here"


def retirement(key: str) -> str | None:
    """Say what became of a key, or of a section whose keys are retired; None of any other."""
    for name, retired in RETIRED.items():
        if name == key or name.startswith(f"{key}."):
            return f"no longer a setting: {retired.what_to_do}"
    return None


def section_in(annotation: object) -> type[BaseModel] | None:
    """The group of settings that a field is, where it is one: also one that may be null."""
    choices = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    sections = [one for one in choices if isinstance(one, type) and issubclass(one, BaseModel)]
    return sections[0] if sections else None


def _default(key: str) -> object:
    """What a key or a section says, as JSON, where nothing is said of it; None where it has to be, or is no setting."""
    *sections, last = key.split(".")
    for model in (DataConfig, TrainConfig):
        for name in sections:
            field = model.model_fields.get(name) if model else None
            model = section_in(field.annotation) if field else None
        field = model.model_fields.get(last) if model else None
        if field and not field.is_required():
            return to_jsonable_python(field.get_default())
    return None
