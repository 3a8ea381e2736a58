"""Hashes of live objects: of what has no file of its own, a layer of a notebook or one that a script registers.

What is hashed is what decides how an object computes: the code of functions and classes, their defaults, closures, and
the globals that their code names, followed recursively; values and containers; arrays by their bytes. Nothing is hashed
by its `repr`. What a distribution has installed counts with its name and version, as in a code print.
"""

from __future__ import annotations

import copyreg
import dis
import enum
import functools
import hashlib
import inspect
import math
import re
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

from normbench import reads
from normbench.distributions import OURS, is_owned

#: What a class has that says nothing of what it computes.
_IDLE = frozenset(
    {"__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__"}
    | {"__slotnames__", "_abc_impl"}  # what Python notes there as a class is used
)


class _UnhashableError(Exception):
    """An object of which no hash says what it computes."""


def digest(thing: object, version: Callable[[str], str]) -> str | None:
    """Return a hash of an object, the same in every process, or None where it holds what can't be hashed.

    `version(module)` returns the distribution and version of a module that is installed.
    """
    try:
        return _Hasher(version).of(thing)
    except Exception:  # of whatever an object raises when it is looked at
        return None


class _Hasher:
    """Hashes objects that may refer to each other: one that is met again while it is hashed counts by its place."""

    def __init__(self, version: Callable[[str], str]) -> None:
        self._version = version
        self._open: dict[int, int] = {}
        self._done: dict[int, str] = {}
        #: Keeps what is hashed alive, so that no other object gets its id.
        self._kept: list[object] = []

    def of(self, thing: object) -> str:
        """Return the hash of an object."""
        name = id(thing)
        if name in self._done:
            return self._done[name]
        if name in self._open:
            return _hash("met again", str(self._open[name]))
        self._open[name] = len(self._open)
        self._kept.append(thing)
        try:
            self._done[name] = _hash(*self._parts(thing))
        finally:
            del self._open[name]
        return self._done[name]

    def _parts(self, thing: Any) -> Iterator[str | bytes]:
        plain = _plain(thing)
        if plain is not None:
            yield type(thing).__name__
            yield plain
        elif type(thing) in (tuple, list):
            yield type(thing).__qualname__
            yield from map(self.of, thing)
        elif type(thing) in (set, frozenset):
            yield type(thing).__qualname__
            yield from sorted(map(self.of, thing))
        elif type(thing) in (dict, MappingProxyType):
            yield "mapping"
            yield from (self.of(part) for item in thing.items() for part in item)
        elif isinstance(thing, CodeType):
            yield from self._code(thing)
        elif isinstance(thing, FunctionType):
            yield from self._function(thing)
        elif isinstance(thing, type):
            yield from self._class(thing)
        elif isinstance(thing, ModuleType):
            yield from self._module(thing)
        else:
            yield from self._object(thing)

    def _object(self, thing: Any) -> Iterator[str | bytes]:
        """Yield what an object is made of that is neither a value, nor a container, nor code."""
        if isinstance(thing, enum.Enum):
            yield from (self.of(type(thing)), thing.name)
        elif isinstance(thing, MethodType):
            yield from ("method", self.of(thing.__func__), self.of(thing.__self__))
        elif isinstance(thing, BuiltinFunctionType):
            owner = thing.__self__
            yield from ("builtin", thing.__qualname__, self._version(thing.__module__ or "") or thing.__module__ or "")
            if owner is not None and not isinstance(owner, ModuleType):
                yield self.of(owner)
        elif isinstance(thing, functools.partial):
            yield from ("partial", self.of(thing.func), self.of(thing.args), self.of(thing.keywords))
        elif isinstance(thing, staticmethod | classmethod):
            yield from (type(thing).__name__, self.of(thing.__func__))
        elif isinstance(thing, functools.cached_property):
            yield from ("cached property", self.of(thing.func))
        elif isinstance(thing, property):
            yield from ("property", self.of((thing.fget, thing.fset, thing.fdel)))
        elif isinstance(thing, functools._lru_cache_wrapper):
            yield from ("cached", self.of(thing.__wrapped__))
        elif (array := _array(thing)) is not None:
            yield from array
        else:
            yield from self._state(thing)

    def _state(self, thing: Any) -> Iterator[str]:
        """Yield the class of an object, and what it would be pickled with."""
        try:
            made = thing.__reduce_ex__(4)
        except Exception as error:
            raise _UnhashableError(str(error)) from None
        if isinstance(made, str):
            yield from ("global", self.of(type(thing)), made)
            return
        maker, args, state, *items = (*made, None, None, None)[:5]
        yield self.of(type(thing))
        yield maker.__qualname__ if maker is copyreg.__newobj__ else self.of(maker)  # type: ignore[attr-defined]
        yield from (self.of(args), self.of(state))
        for part in items:
            yield self.of(list(part)) if part is not None else ""

    def _function(self, function: FunctionType) -> Iterator[str]:
        yield function.__qualname__
        yield self.of((function.__defaults__, function.__kwdefaults__))
        yield self.of({name: value for name, value in vars(function).items() if name != "__wrapped__"})
        for cell in function.__closure__ or ():
            try:
                yield self.of(cell.cell_contents)
            except ValueError:  # not filled yet
                yield "empty"
        if self._installed(function.__globals__.get("__name__", "")):
            yield self._version(function.__globals__["__name__"])
            return
        yield self.of(function.__code__)
        for name in sorted(_globals_of(function.__code__)):
            if name in function.__globals__:
                yield name
                yield self._named(function.__globals__[name], function.__code__)

    def _named(self, value: object, code: CodeType) -> str:
        """Return the hash of a global that code names; of a module nothing but what the code may use of it."""
        if not isinstance(value, ModuleType) or self._installed(value.__name__):
            return self.of(value)
        used = sorted(_names_in(code) & set(vars(value)))
        return _hash(self.of(value), *(part for name in used for part in (name, self.of(vars(value)[name]))))

    def _class(self, thing: type) -> Iterator[str]:
        yield thing.__qualname__
        if self._installed(thing.__module__):
            yield self._version(thing.__module__) or thing.__module__
            return
        yield self.of((type(thing), thing.__bases__))
        for name, value in sorted(vars(thing).items()):
            if name not in _IDLE:
                yield name
                yield "member" if inspect.ismemberdescriptor(value) else self.of(value)

    def _module(self, module: ModuleType) -> Iterator[str]:
        yield module.__name__
        yield self._version(module.__name__)
        if not self._installed(module.__name__) and module.__name__ != "__main__":
            files = reads.read([module.__name__])
            yield from sorted(digest for _, digest in files.values())

    def _code(self, code: CodeType) -> Iterator[str | bytes]:
        yield code.co_code
        yield getattr(code, "co_exceptiontable", b"")
        yield self.of((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags))
        yield self.of((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars))
        yield self.of(code.co_consts)

    def _installed(self, module: str) -> bool:
        """Whether a module is Python's, a distribution's, or normbench's: then its version says what it computes."""
        if module in ("", "builtins") or module.partition(".")[0] in sys.stdlib_module_names | OURS:
            return module != "__main__"
        file = getattr(sys.modules.get(module), "__file__", None)
        return file is not None and is_owned(file)


def _plain(thing: object) -> str | bytes | None:
    """Return the text of a plain value, None for any other object."""
    kind = type(thing)
    if kind is str or kind is bytes:
        return thing  # type: ignore[return-value]
    if thing is None or thing is ... or thing is NotImplemented or kind in (bool, int):
        return str(thing)
    if kind is float:
        return "nan" if math.isnan(thing) else struct.pack("<d", thing)  # type: ignore[arg-type]
    if kind is complex:
        return struct.pack("<dd", thing.real, thing.imag)  # type: ignore[attr-defined]
    if kind in (range, slice) or isinstance(thing, PurePath):
        return str(thing)
    if isinstance(thing, re.Pattern):
        return f"{thing.pattern!r} {thing.flags}"
    return None


def _array(thing: Any) -> list[str | bytes] | None:
    """Return what a tensor or an array says: type, shape, and the bytes of its numbers."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None:
        if isinstance(thing, torch.Tensor) and type(thing) in (torch.Tensor, torch.nn.Parameter):
            if thing.layout != torch.strided or thing.is_meta:
                raise _UnhashableError("a tensor without plain numbers")
            flat = thing.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
            content = flat.view(torch.uint8).numpy().tobytes() if thing.numel() else b""
            return [type(thing).__name__, f"{thing.dtype} {tuple(thing.shape)} {thing.requires_grad}", content]
        if isinstance(thing, torch.dtype | torch.device | torch.layout | torch.memory_format):
            return ["torch", str(thing)]
    exact = numpy is not None and (type(thing) is numpy.ndarray or isinstance(thing, numpy.generic))
    if numpy is not None and exact and thing.dtype.kind in "biufcSU":
        return ["numpy", f"{thing.dtype.str} {thing.shape}", numpy.ascontiguousarray(thing).tobytes()]
    return None


def _globals_of(code: CodeType) -> set[str]:
    """Return the globals that code names, that of its inner functions and classes as well."""
    named = {one.argval for one in dis.get_instructions(code) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return named.union(*(_globals_of(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def _names_in(code: CodeType) -> set[str]:
    return set(code.co_names).union(*(_names_in(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def _hash(*parts: str | bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        content = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        whole.update(len(content).to_bytes(8, "little"))
        whole.update(content)
    return whole.hexdigest()
