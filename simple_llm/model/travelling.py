"""The code that travels with a model: one file each, with what it leans on written into it.

in this folder                                  in a model's folder
modeling_simple_llm.py, places_simple_llm.py    modeling_simple_llm.py
tokenization_simple_llm.py, notation_...py      tokenization_simple_llm.py
"""

import ast
import re
from pathlib import Path

CODE_FOLDER = Path(__file__).parent
_PART = re.compile(r"^from \.(\w+) import (?:\([^)]*\)|[^\n(]*)\n", re.MULTILINE)


def travelling_code(name: str) -> str:
    """The text of a file that travels, which imports nothing of the project: each `from .part import ...` in it has
    become that part.

    Args:
        name: of the file, the same here and there.
    """
    return _PART.sub(lambda found: _body(f"{found[1]}.py"), _read(name))


def _body(name: str) -> str:
    """A part without its docstring, of which the first line says what it is."""
    tree = ast.parse(text := _read(name))
    title, lines = ast.get_docstring(tree).partition("\n")[0], text.splitlines(keepends=True)
    return f"\n# ---- {title}\n\n{''.join(lines[tree.body[0].end_lineno :]).strip()}\n"


def _read(name: str) -> str:
    return (CODE_FOLDER / name).read_text("utf-8")
