"""The checks from Python: a function, and classes for pytest to collect, which an author's tests subclass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from normbench import plugins
from normbench.execute.request import Request
from normbench.testing.kit import Kind
from normbench.testing.report import described
from normbench.testing.results import Result
from normbench.testing.run import Asked, asked, chosen, run_check


def check(
    name: str,
    *,
    layouts: Sequence[str] = (),
    only: Sequence[str] = (),
    fast: bool = False,
    plugin_files: Sequence[str | Path] = (),
    data_dir: str | Path | None = None,
    seed: int = 0,
) -> list[Result]:
    """Check a norm, a task or a probe, by "name" or "name(param=value)", in this process, and return every result.

    `layouts` are those of a norm's to check, `only` the ids of checks, () for all; `fast` leaves out the slow ones.
    `data_dir` is where a task's data lies, as `normbench.run` has it. What is drawn depends on `seed`. A layer that
    crashes or hangs does so here: `normbench check` survives it. Raises UsageError for what is not there.
    """
    registry = plugins.current(tuple(Path(file) for file in plugin_files))
    folder = Request(suite="", data_dir=Path(data_dir) if data_dir is not None else None).data_folder()
    every = asked([name], registry, layouts=layouts, only=only, fast=fast, seed=seed)
    return [run_check(one, thing, registry, folder) for thing in every for one in chosen(thing)]


class _Checks:
    """One pytest test for each check of one thing; a subclass says which, and pytest's -k chooses by a check's id."""

    kind: ClassVar[Kind]
    #: Files of plugins to load, as --plugin does; what is installed or registered needs none.
    plugin_files: ClassVar[Sequence[str | Path]] = ()
    data_dir: ClassVar[str | Path | None] = None
    #: Whether to leave out the slow checks.
    fast: ClassVar[bool] = False

    @classmethod
    def _named(cls) -> str:
        named: str = getattr(cls, cls.kind, "")
        return named

    @classmethod
    def _asked(cls) -> Asked:
        registry = plugins.current(tuple(Path(file) for file in cls.plugin_files))
        layouts = getattr(cls, "layouts", ())
        every = asked([cls._named()], registry, layouts=layouts, fast=cls.fast, where=cls.__name__)
        return next(one for one in every if one.kind == cls.kind)

    @classmethod
    def pytest_generate_tests(cls, metafunc: Any) -> None:
        """Give `test_holds` the ids of the checks, as pytest asks for them."""
        if "check_id" in metafunc.fixturenames:
            metafunc.parametrize("check_id", [one.id for one in chosen(cls._asked())] if cls._named() else [])

    def test_holds(self, check_id: str) -> None:
        """The property of the check holds, or is declared, with a reason, as expected to fail."""
        import pytest

        results = check(
            self._named(),
            only=[check_id],
            layouts=getattr(self, "layouts", ()),
            plugin_files=self.plugin_files,
            data_dir=self.data_dir,
        )
        result = next(one for one in results if one.kind == self.kind)
        if result.status == "failed":
            pytest.fail("\n".join(described(result)), pytrace=False)
        if result.status == "expected":
            pytest.xfail(result.reason)
        if result.status == "not-applicable":
            pytest.skip(result.said)


class NormChecks(_Checks):
    """The checks of a norm: `class TestMine(NormChecks): norm = "my-norm"`."""

    kind = "norm"
    norm: ClassVar[str] = ""
    #: The layouts to check, () for all that it claims.
    layouts: ClassVar[Sequence[str]] = ()


class TaskChecks(_Checks):
    """The checks of a task: `class TestMine(TaskChecks): task = "my-task"`."""

    kind = "task"
    task: ClassVar[str] = ""


class ProbeChecks(_Checks):
    """The checks of a probe: `class TestMine(ProbeChecks): probe = "my-probe"`."""

    kind = "probe"
    probe: ClassVar[str] = ""
