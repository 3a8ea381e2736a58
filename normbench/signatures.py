"""The parameters of a function that is named by a string, read from its source: listings import none of it."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from normbench.reads import unnoticed


def parameters(function: str) -> dict[str, Any]:
    """Return the parameters of "package.module:name" whose default is a literal; none where its source is not found."""
    module, _, name = function.partition(":")
    with suppress(ImportError, OSError, SyntaxError, ValueError), unnoticed():
        for file in filter(Path.is_file, _files(module)):
            for node in ast.parse(file.read_bytes()).body:
                if isinstance(node, ast.FunctionDef) and node.name == name:
                    return dict(_literals(node.args))
    return {}


def _files(module: str) -> Iterator[Path]:
    """Yield where a module's source may lie."""
    top, *inner = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return
    if spec.origin and not inner:
        yield Path(spec.origin)
    for folder in spec.submodule_search_locations or ():
        yield Path(folder, *inner).with_suffix(".py")
        yield Path(folder, *inner, "__init__.py")


def _literals(arguments: ast.arguments) -> Iterator[tuple[str, Any]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = list(zip(reversed(positional), reversed(arguments.defaults), strict=False))[::-1]
    for argument, default in [*pairs, *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]:
        with suppress(ValueError, TypeError):
            if default is not None:
                yield argument.arg, ast.literal_eval(default)
