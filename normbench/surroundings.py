"""Keeps what a whole process shares as it was while a plugin loads or a layer trains: a change would reach the next.

Kept are torch's settings, the functions and methods that others compute with, the random generators, the working
directory, signal handlers, the environment, filters of warnings and the import path. torch is not imported for that:
where a plugin is the first to import it, it is looked at as it comes.
"""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from functools import cache, partial, reduce
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

#: Environment variables that torch, Lightning and scikit-learn set for themselves, as they are imported or compile.
_OF_LIBRARIES = ("KMP_", "PYTORCH_NVML_", "TORCHINDUCTOR_", "_TORCHINDUCTOR_", "TRITON_")
#: Settings that are attributes of `torch.backends`; not every version of torch has all.
_BACKENDS = (
    *(f"cudnn.{name}" for name in ("enabled", "benchmark", "deterministic", "allow_tf32")),
    *(f"cuda.matmul.allow_{kind}_reduced_precision_reduction" for kind in ("fp16", "bf16")),
    *(f"{name}fp32_precision" for name in ("", "cuda.matmul.", "cudnn.", "cudnn.conv.", "cudnn.rnn.")),
    *(f"{name}fp32_precision" for name in ("mkldnn.", "mkldnn.matmul.", "mkldnn.conv.", "mkldnn.rnn.")),
)
#: How many of the things that were changed a sentence names.
SHOWN = 4
_MISSING: Any = object()


@contextmanager
def kept() -> Iterator[list[str]]:
    """Put what a process shares back as it was; yield a list that then says what had been changed, in words.

    Generators, filters of warnings and the import path are put back, unlisted. What was added to the path stays,
    behind all else: a plugin may import from there later. Where its code forks, the copy of the process ends here.
    """
    changed: list[str] = []
    process = os.getpid()
    with warnings.catch_warnings(), ExitStack() as stack:
        _keep_python(stack, changed)
        if "torch" in sys.modules:
            _keep_torch(stack, changed)
        else:
            stack.enter_context(_as_torch_comes(lambda: _keep_torch(stack, changed)))
        try:
            yield changed
        finally:
            if os.getpid() != process:
                os._exit(0)  # the outcome of the copy, or its error, would be a second one


@contextmanager
def torch_kept() -> Iterator[list[str]]:
    """Put torch's settings and the hooks of all modules back, at little cost; yield a list like that of `kept`."""
    changed: list[str] = []
    with ExitStack() as stack:
        _keep_settings(stack, changed, sys.modules["torch"])
        yield changed


@contextmanager
def on_stderr() -> Iterator[None]:
    """Send what is printed to stderr, by other languages too: stdout is a command's result."""
    with ExitStack() as stack:
        with suppress(OSError, ValueError, AttributeError):  # one of the two is closed
            sys.stdout.flush()
            saved = os.dup(1)
            stack.callback(os.close, saved)
            os.dup2(2, 1)
            stack.callback(os.dup2, saved, 1)
        stack.enter_context(redirect_stdout(sys.stderr))
        yield


@contextmanager
def noted() -> Iterator[list[str]]:
    """Yield a list that has what Python prints meanwhile, which goes to stdout all the same."""
    printed: list[str] = []
    with redirect_stdout(_Noting(sys.stdout, printed)):
        yield printed


class _Noting:
    """A stream that is another one, and notes what is written to it."""

    def __init__(self, stream: Any, printed: list[str]) -> None:
        self._stream, self._printed = stream, printed

    def write(self, text: str) -> Any:
        """Write a text."""
        self._printed.append(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def listed(changed: Sequence[str]) -> str:
    """Return what was changed as part of a sentence: "a", "a and b", "a, b and c", and of more how many."""
    shown = [*changed[:SHOWN], f"{len(changed) - SHOWN} more"] if len(changed) > SHOWN + 1 else changed
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _keep(
    stack: ExitStack,
    changed: list[str],
    read: Callable[[], Mapping[Any, Any]],
    write: Callable[[Any, Any], object],
    words: str = "{}",
) -> None:
    """Put back, as the stack ends, each of the values that `read` names; `write` is given _MISSING for none.

    What was changed is called by its name in `words`.
    """
    before = dict(read())

    def put_back() -> None:
        now = read()
        for name in [*before, *(name for name in now if name not in before)]:
            value = before.get(name, _MISSING)
            if value is not now.get(name, _MISSING) and value != now.get(name, _MISSING):
                changed.append(words.format(name))
                write(name, value)

    stack.callback(put_back)


def _keep_python(stack: ExitStack, changed: list[str]) -> None:
    path, entries = sys.path, list(sys.path)

    def put_path_back() -> None:
        path[:] = [*entries, *(entry for entry in sys.path if entry not in entries)]
        sys.path = path

    stack.callback(put_path_back)
    stack.callback(random.setstate, random.getstate())
    numpy = sys.modules.get("numpy.random")
    if numpy:
        stack.callback(numpy.set_state, numpy.get_state())
    _keep(stack, changed, _working_directory, _set_working_directory)
    _keep(stack, changed, _environment, _set_variable, "the environment variable {}")
    if threading.current_thread() is threading.main_thread():  # no other may set them
        _keep(stack, changed, _handlers, _set_handler, "the handler of {.name}")


def _working_directory() -> dict[str, str]:
    with suppress(OSError):  # it was removed
        return {"the working directory": os.getcwd()}
    return {}


def _set_working_directory(name: str, value: Any) -> None:  # noqa: ARG001 - there is one
    with suppress(OSError, TypeError):  # there was none, or it is gone
        os.chdir(value)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_OF_LIBRARIES)}


def _set_variable(name: str, value: Any) -> None:
    if value is _MISSING:
        del os.environ[name]
    else:
        os.environ[name] = value


def _handlers() -> dict[signal.Signals, Any]:
    return {number: signal.getsignal(number) for number in signal.Signals}


def _set_handler(number: signal.Signals, value: Any) -> None:
    with suppress(OSError, ValueError, TypeError):  # one that Python did not set
        signal.signal(number, value)


def _keep_torch(stack: ExitStack, changed: list[str]) -> None:
    torch: Any = sys.modules["torch"]
    stack.callback(torch.set_rng_state, torch.get_rng_state())
    if torch.cuda.is_initialized():
        stack.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
    _keep_functions(stack, changed)  # before the settings, to come after them: a default dtype has a class in `torch`
    _keep_settings(stack, changed, torch)


def _keep_settings(stack: ExitStack, changed: list[str], torch: Any) -> None:
    settings = _settings(torch)

    def write(name: str, value: Any) -> None:
        with suppress(RuntimeError, TypeError):  # threads between operators are set once; None is no value
            settings[name][1](value)

    _keep(stack, changed, lambda: {name: _got(get) for name, (get, _) in settings.items()}, write)
    _keep_hooks(stack, changed, torch)


def _settings(torch: Any) -> dict[str, tuple[Callable[[], Any], Callable[[Any], object]]]:
    """Return how each setting is read and set, by what it is called."""
    settings: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
        "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
        "torch's default device": (torch.get_default_device, partial(_set_default_device, torch)),
        "torch's grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
        "torch's inference mode": (torch.is_inference_mode_enabled, partial(_set_inference_mode, torch)),
        "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
        "torch's number of threads between operators": (torch.get_num_interop_threads, torch.set_num_interop_threads),
        "torch's deterministic algorithms": (
            lambda: (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
            lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
        ),
        "torch's precision of float32 products": (
            torch.get_float32_matmul_precision,
            torch.set_float32_matmul_precision,
        ),
        "torch's flushing of denormal numbers": (lambda: sys.float_info.min * 0.5 == 0.0, torch.set_flush_denormal),
    }
    for kind in ("cpu", "cuda"):
        enabled = partial(torch.is_autocast_enabled, kind), partial(torch.set_autocast_enabled, kind)
        dtype = partial(torch.get_autocast_dtype, kind), partial(torch.set_autocast_dtype, kind)
        settings |= {f"torch's autocast on {kind}": enabled, f"torch's autocast dtype on {kind}": dtype}
    for path in _BACKENDS:
        *owners, name = path.split(".")
        with suppress(AttributeError, RuntimeError):
            owner = reduce(getattr, owners, torch.backends)
            getattr(owner, name)
            settings[f"torch.backends.{path}"] = partial(getattr, owner, name), partial(setattr, owner, name)
    return settings


def _got(get: Callable[[], Any]) -> Any:
    """Return a setting; None where torch can't say: its two ways to set TF32 exclude each other."""
    with suppress(RuntimeError):
        return get()
    return None


def _set_default_device(torch: Any, device: Any) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)  # for "cpu" each call would take a detour


#: Inference modes that were entered to end others: one ends as its object does.
_entered: list[Any] = []


def _set_inference_mode(torch: Any, mode: bool) -> None:
    _entered.append(torch.inference_mode(mode))
    _entered[-1].__enter__()


def _keep_hooks(stack: ExitStack, changed: list[str], torch: Any) -> None:
    """Put back the hooks of all modules."""
    module = torch.nn.modules.module
    hooks = {name: own for name, own in vars(module).items() if name.startswith("_global_") and isinstance(own, dict)}

    def write(name: str, value: dict[Any, Any]) -> None:
        hooks[name].clear()
        hooks[name].update(value)

    _keep(stack, changed, lambda: {name: dict(own) for name, own in hooks.items()}, write, f"{module.__name__}.{{}}")


def _keep_functions(stack: ExitStack, changed: list[str]) -> None:
    """Put back what modules and classes of torch had before, and take away methods that hide an inherited one."""
    before = [(owner, dict(vars(owner))) for owner in _owners()]

    def put_back() -> None:
        for owner, names in before:
            if vars(owner) != names:
                changed.extend(_put_names_back(owner, names))

    stack.callback(put_back)


@cache
def _owners() -> list[Any]:
    """Return the modules and classes of torch whose functions others compute with."""
    torch: Any = sys.modules["torch"]
    layers = [torch.Tensor, *(value for value in vars(torch.nn).values() if isinstance(value, type))]
    classes = dict.fromkeys(base for one in layers for base in one.__mro__ if _is_torchs(base.__module__))
    return [torch, torch.nn, torch.nn.functional, *classes]


def _put_names_back(owner: Any, names: dict[str, Any]) -> Iterator[str]:
    now = dict(vars(owner))
    title = owner.__name__ if isinstance(owner, ModuleType) else f"{owner.__module__}.{owner.__qualname__}"
    for name, value in names.items():
        other = now.get(name, _MISSING)
        if value is not other and not _is_torchs(getattr(other, "__globals__", {}).get("__name__", ""), "._"):
            setattr(owner, name, value)
            yield f"{title}.{name}"
    for name in now.keys() - names.keys() if isinstance(owner, type) else ():
        if callable(now[name]) and any(name in vars(base) for base in owner.__mro__[1:]):
            delattr(owner, name)
            yield f"{title}.{name}"


def _is_torchs(module: str, below: str = "") -> bool:
    """Whether a module is torch's own; what is below `torch._` replaces functions to compile networks."""
    return f"{module}.".startswith(f"torch{below or '.'}")


class _as_torch_comes(MetaPathFinder):  # noqa: N801 - a context manager
    """Calls a function as soon as torch has been imported, if that happens meanwhile."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then, self._looking = then, False

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(self, *error: object) -> None:
        with suppress(ValueError):
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:  # noqa: ARG002
        """Return what others find of torch, with a loader that then calls the function."""
        if name != "torch" or self._looking:
            return None
        self._looking = True
        spec = importlib.util.find_spec(name)
        self._looking = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self._then()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
