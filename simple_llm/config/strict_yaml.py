"""YAML without its surprises: what a person reads in the file is what the program gets.

PyYAML alone reads `010` as 8, `1:30` as 90, `on` as true and `None` as a word, keeps the last of two equal
keys, expands aliases without limit, and trips over tags. Here each of these is an error that names its line.
"""

import re
from collections.abc import Hashable
from typing import NoReturn

import yaml

MAX_BYTES = 32_000  # PyYAML takes up to a second for that many; the longest of our files has 2,200
TOO_LARGE = f"larger than {MAX_BYTES:,} bytes; is it a config file?"

MOST_BRACKETS = 50  # one in another
_PLAIN_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_EXPONENT_FLOAT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")


class StrictYamlError(ValueError):
    """Text that is not YAML, or YAML that means something else than it seems to say."""


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses aliases, tags, repeated keys, and scalars that are not what they look like."""

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        if self.check_event(yaml.AliasEvent) or getattr(self.peek_event(), "anchor", None):
            raise StrictYamlError(f"{_line(self.peek_event())}anchors and aliases are not supported")
        if tag := getattr(self.peek_event(), "tag", None):
            raise StrictYamlError(f"{_line(self.peek_event())}tags are not supported, found {shown(tag)}")
        return super().compose_node(parent, index)

    def fetch_flow_collection_start(self, kind: type[yaml.Token]) -> None:
        """Count the brackets that are open: PyYAML goes through all of them at each token."""
        if self.flow_level >= MOST_BRACKETS:
            raise StrictYamlError(f"line {self.line + 1}: nested too deeply")
        super().fetch_flow_collection_start(kind)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise StrictYamlError(f"{_line(key_node)}a key must be a word, got {shown(key_node.value)}")
            if key in seen:
                raise StrictYamlError(f"{_line(key_node)}key {shown_key(key)} appears twice")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_plain_int(self, node: yaml.ScalarNode) -> int:
        if not _PLAIN_INT.fullmatch(node.value):
            raise StrictYamlError(f"{_line(node)}write the number {shown(node.value)} in plain decimal digits")
        if len(node.value) > 4300:
            raise StrictYamlError(f"{_line(node)}a number may have 4,300 digits, this one has {len(node.value)}")
        return int(node.value)

    def construct_plain_float(self, node: yaml.ScalarNode) -> float:
        if ":" in node.value or "_" in node.value:
            raise StrictYamlError(f"{_line(node)}write the number {shown(node.value)} in plain decimal digits")
        return self.construct_yaml_float(node)

    def construct_true_or_false(self, node: yaml.ScalarNode) -> bool:
        if node.value not in ("true", "false"):
            raise StrictYamlError(f"{_line(node)}write true or false instead of {node.value}")
        return node.value == "true"

    def construct_sign(self, node: yaml.ScalarNode) -> NoReturn:
        raise StrictYamlError(f"{_line(node)}{node.value} has a meaning of its own in YAML; write it in quotes")

    def construct_text(self, node: yaml.ScalarNode) -> str | float:
        if node.style is None and node.value == "None":
            raise StrictYamlError(f"{_line(node)}write null instead of None")
        if node.style is None and _EXPONENT_FLOAT.fullmatch(node.value):
            return float(node.value)  # YAML 1.1 wants 1.0e-4; people write 1e-4
        return self.construct_yaml_str(node)


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_plain_int)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _StrictLoader.construct_plain_float)
_StrictLoader.add_constructor("tag:yaml.org,2002:bool", _StrictLoader.construct_true_or_false)
_StrictLoader.add_constructor("tag:yaml.org,2002:value", _StrictLoader.construct_sign)  # =
_StrictLoader.add_constructor("tag:yaml.org,2002:merge", _StrictLoader.construct_sign)  # <<
_StrictLoader.add_constructor("tag:yaml.org,2002:str", _StrictLoader.construct_text)
_StrictLoader.add_constructor("tag:yaml.org,2002:timestamp", _StrictLoader.construct_text)  # 2024-01-01 is a word


class _StrictDumper(yaml.SafeDumper):
    """SafeDumper that also quotes the words which are none to _StrictLoader."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        is_surprise = text == "None" or _EXPONENT_FLOAT.fullmatch(text)
        return self.represent_scalar("tag:yaml.org,2002:str", text, style='"' if is_surprise else None)


_StrictDumper.add_representer(str, _StrictDumper.represent_text)


def shown(value: object) -> str:
    """Write what somebody else wrote so that it fits into a line and cannot break it."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def shown_key(key: str) -> str:
    """The same for a key, as it is where that does no harm."""
    return key if key.isprintable() and len(key) <= 60 else shown(key)


def _line(marked: yaml.Node | yaml.Event) -> str:
    return f"line {marked.start_mark.line + 1}: " if marked.start_mark else ""


def parse_yaml(text: str) -> object:
    """Read one YAML document.

    Raises:
        StrictYamlError: not YAML, or one of the surprises named at the top of this file.
    """
    if len(text) > MAX_BYTES:
        raise StrictYamlError(TOO_LARGE)
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise StrictYamlError(f"{where}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise StrictYamlError(str(error).splitlines()[0]) from error
    except RecursionError:
        raise StrictYamlError("nested too deeply") from None


def format_yaml(tree: object) -> str:
    """Write a tree as YAML that `parse_yaml` reads back to an equal one."""
    return yaml.dump(tree, Dumper=_StrictDumper, sort_keys=False, width=100)
