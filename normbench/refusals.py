"""Why a plugin can't be loaded: in one line, and at which line of its file."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

from normbench.errors import UsageError
from normbench.texts import in_a_line


class RefusedError(ValueError):
    """A plugin's hook offers something that is not allowed."""

    def __init__(self, hook: str, why: str) -> None:
        super().__init__(why)
        self.hook = hook


def reason(error: BaseException) -> str:
    """Return what was raised while a plugin was loaded, in one line."""
    said = in_a_line(error.msg if isinstance(error, SyntaxError) else error)
    return said if isinstance(error, RefusedError | UsageError) else f"{type(error).__name__}: {said}"


def at(error: BaseException, file: Path, module: Any) -> str:
    """Return a file's name with the line that an error is about: that raised it, else that of the hook's function."""
    path = str(file.resolve())
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    if isinstance(error, SyntaxError) and error.filename == path:
        lines.append(error.lineno)
    code = getattr(getattr(module, error.hook, None), "__code__", None) if isinstance(error, RefusedError) else None
    if code is not None and code.co_filename == path:
        lines.append(code.co_firstlineno)
    return f"{file}, line {lines[-1]}" if lines else str(file)
