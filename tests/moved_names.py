"""A library of another release, made of the one that is here: a name is another one in all of its code.

transformers 5.24 called `cache` what was `past_key_values` before, everywhere at once; code that knew the old name
alone was silently wrong. `renamed` does the same to any name, inside this process and for as long as a `with` block:
functions, their arguments, attributes, fields of dataclasses, and strings that stand for them.
"""

import contextlib
import functools
import gc
import sys
import types
import warnings
from collections.abc import Callable, Iterator

import pytest
import transformers
from transformers import pipeline  # noqa: F401 - what it needs has to be there to be renamed

NEXT_RELEASE = "5.99.0"


@contextlib.contextmanager
def another_release() -> Iterator[None]:
    """Have the library say that it is of a release that nobody tested.

    It puts another module in its own place while it is imported, so that its first importer has one of its own.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (transformers, sys.modules["transformers"]):
            patch.setattr(module, "__version__", NEXT_RELEASE)
        yield


@contextlib.contextmanager
def renamed(old: str, *others: types.FunctionType, within: tuple[str, ...] = ("transformers.",)) -> Iterator[str]:
    """Call something else in all of the library's code, or in some of it, and in `others`; gives the new name.

    Args:
        within: how the names of the modules begin that are rewritten.
    """
    new = f"{old}_moved"
    functions, classes, tables = _library()
    with contextlib.ExitStack() as undo:
        known = [*functions.items(), *((one, _names(one.__code__)) for one in others)]
        for function, names in known:
            if not function.__module__.startswith(within) and function not in others:
                continue
            if old in names:
                undo.callback(setattr, function, "__code__", function.__code__)
                function.__code__ = _rewritten(function.__code__, old, new)
            if old in (function.__kwdefaults__ or {}):
                undo.callback(setattr, function, "__kwdefaults__", function.__kwdefaults__)
                function.__kwdefaults__ = _moved_key(function.__kwdefaults__, old, new)
        for owner, attribute, strings in tables:
            if not getattr(owner, "__module__", owner.__name__).startswith(within):
                continue
            if old in strings:
                table = vars(owner)[attribute]
                undo.callback(setattr, owner, attribute, table)
                setattr(owner, attribute, _moved_table(table, old, new))
        for owner in classes:
            if not owner.__module__.startswith(within):
                continue
            if old in vars(owner):
                move_attribute(owner, old, new, undo)
            fields = vars(owner).get("__dataclass_fields__", {})
            if old in fields:
                undo.callback(setattr, owner, "__dataclass_fields__", fields)
                field = fields[old]
                owner.__dataclass_fields__ = _moved_key(fields, old, new)
                undo.callback(setattr, field, "name", old)
                field.name = new
        yield new


@contextlib.contextmanager
def moved_method(owner: type, old: str) -> Iterator[str]:
    """Call a method something else where its name is too common to be rewritten; gives the new name."""
    with contextlib.ExitStack() as undo:
        for base in owner.__mro__:
            if old in vars(base) and base.__module__.startswith("transformers"):
                move_attribute(base, old, f"{old}_moved", undo)
        yield f"{old}_moved"


@contextlib.contextmanager
def other_default(owner: type, parameter: str, value: object) -> Iterator[None]:
    """Change what an argument or a field is where it is not given.

    Args:
        owner: a class with an attribute of that name, or a function with a parameter of it.
    """
    with contextlib.ExitStack() as undo:
        if isinstance(owner, type):
            undo.callback(setattr, owner, parameter, vars(owner)[parameter])
            setattr(owner, parameter, value)
            field = owner.__dataclass_fields__[parameter]
            undo.callback(setattr, field, "default", field.default)
            field.default = value
            functions = _wrapped(owner.__init__)
        else:
            functions = _wrapped(owner)
        num_changed = 0
        for function in functions:
            code = function.__code__
            named = code.co_varnames[: code.co_argcount][-len(function.__defaults__ or (None,)) :]
            if parameter in named and function.__defaults__:
                undo.callback(setattr, function, "__defaults__", function.__defaults__)
                changed = dict(zip(named, function.__defaults__, strict=True)) | {parameter: value}
                function.__defaults__ = tuple(changed.values())
            elif parameter in (function.__kwdefaults__ or {}):
                undo.callback(setattr, function, "__kwdefaults__", function.__kwdefaults__)
                function.__kwdefaults__ = function.__kwdefaults__ | {parameter: value}
            else:
                continue
            num_changed += 1
        assert num_changed, f"{owner} has no default for {parameter}"
        if isinstance(owner, type):
            assert getattr(owner(), parameter) == value  # it is felt
        yield


def _wrapped(function: Callable) -> list[types.FunctionType]:
    """A function and those that its decorators have put it around, however they hold them."""
    found, waiting = [], [function]
    while waiting:
        one = waiting.pop()
        if isinstance(one, types.FunctionType) and one not in found:
            found.append(one)
            waiting += [cell.cell_contents for cell in one.__closure__ or () if cell.cell_contents is not one]
            waiting += [one.__wrapped__] if hasattr(one, "__wrapped__") else []
    return found


def move_attribute(owner: type, old: str, new: str, undo: contextlib.ExitStack) -> None:
    value = vars(owner)[old]
    undo.callback(setattr, owner, old, value)
    undo.callback(delattr, owner, new)
    setattr(owner, new, value)
    delattr(owner, old)


def _moved_table(table: dict | list | tuple | str, old: str, new: str) -> dict | list | tuple | str:
    def moved(value: object) -> object:
        return new if isinstance(value, str) and value == old else value

    if isinstance(table, str):
        return moved(table)
    if isinstance(table, dict):
        return {moved(key): moved(value) for key, value in table.items()}
    return type(table)(map(moved, table))


def _strings(table: dict | list | tuple | str) -> set[str]:
    members = [*table, *table.values()] if isinstance(table, dict) else [table] if isinstance(table, str) else table
    return {one for one in members if isinstance(one, str)}


def _moved_key(mapping: dict, old: str, new: str) -> dict:
    return {new if key == old else key: value for key, value in mapping.items()}


def _rewritten(code: types.CodeType, old: str, new: str) -> types.CodeType:
    """The same code with every name, argument and string that is `old` called `new`."""

    def moved(value: object) -> object:
        if isinstance(value, types.CodeType):
            return _rewritten(value, old, new)
        if isinstance(value, tuple):  # the names of keyword arguments
            return tuple(map(moved, value))
        return new if value == old and isinstance(value, str) else value

    kinds = ("co_names", "co_varnames", "co_freevars", "co_cellvars", "co_consts")
    return code.replace(**{kind: moved(getattr(code, kind)) for kind in kinds})


def _names(code: types.CodeType) -> set[str]:
    found = {*code.co_names, *code.co_varnames, *code.co_freevars, *code.co_cellvars}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names(constant)
        elif isinstance(constant, str):
            found.add(constant)
        elif isinstance(constant, tuple):
            found.update(one for one in constant if isinstance(one, str))
    return found


@functools.cache
def _library() -> tuple[dict[types.FunctionType, set[str]], list[type], list[tuple[object, str, set[str]]]]:
    """All functions of the library and the names in each, its classes, and where one or a module has names in a table.

    Both sets of names are taken once: whatever is renamed has its name again before another one is.
    """
    with warnings.catch_warnings(action="ignore"):  # some of torch warn when they are looked at
        everything = [one for one in gc.get_objects() if isinstance(one, type | types.FunctionType)]
    functions = {
        one: _names(one.__code__) for one in everything if type(one) is types.FunctionType and _is_of_the_library(one)
    }
    classes = [one for one in everything if isinstance(one, type) and _is_of_the_library(one)]
    modules = [module for name, module in sys.modules.items() if name.startswith("transformers.")]
    tables = [
        (owner, name, strings)
        for owner in [*classes, *modules]
        for name, value in vars(owner).items()
        if type(value) in (dict, list, tuple, str) and not name.startswith("__") and (strings := _strings(value))
    ]
    return functions, classes, tables


def _is_of_the_library(one: Callable | type) -> bool:
    module = getattr(one, "__module__", None)
    return isinstance(module, str) and module.startswith("transformers.") and module in sys.modules
