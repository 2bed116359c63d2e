"""The code that this process runs, for the keys of what it makes and for those who are to run it.

A launch takes hours, and meanwhile somebody may edit these files: what is on disk by then is not
what the process has imported.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)
_PACKAGE = Path(__file__).parents[1]
_AS_IMPORTED = {path: path.read_text() for path in _PACKAGE.rglob("[!.]*.py")}

for _path, _text in _AS_IMPORTED.items():
    # `inspect` reads sources through this cache, and never again where there is no time of change.
    linecache.cache[str(_path)] = (len(_text), None, _text.splitlines(keepends=True), str(_path))


def code_of(thing: Any) -> str:
    """The source of a module, function or method without comments and docstrings: what it does.

    For keys: a night's base learners outlive the change of a docstring.
    """
    return _without_docstrings(textwrap.dedent(inspect.getsource(thing)))


@cache
def _without_docstrings(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def write_copy(folder: Path) -> Path:
    """Write the package as it was imported to `folder/distcel`, which is returned."""
    package = folder / _PACKAGE.name
    package.mkdir()
    for path, text in _AS_IMPORTED.items():
        copy = package / path.relative_to(_PACKAGE)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(text)
    return package
