"""The progress bar of `normbench.run`: what it shows, to whom, and that it ends."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import normbench
from normbench import api, bar
from normbench.bar import Bar


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


def terminal(monkeypatch) -> Terminal:
    """Put a terminal in place of stderr: pytest's own stands there once a test begins."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def plan(planned: int, left: int) -> Any:
    return SimpleNamespace(planned=planned, left=left)


def told(done: int, total: int, outcome: str = "trained") -> Any:
    return SimpleNamespace(done=done, total=total, outcome=SimpleNamespace(outcome=outcome))


def last(screen: Terminal) -> str:
    """Return what a terminal shows in the end."""
    return screen.getvalue().rstrip("\n").rpartition("\r")[2]


def test_a_bar_counts_trials_and_failures(monkeypatch) -> None:
    """It begins with what was stored, and says how many failed; a layer that diverges is a result."""
    screen, shown = terminal(monkeypatch), Bar()

    shown.on_start(plan(planned=10, left=8))
    assert "2/10" in last(screen)
    for done, outcome in ((3, "diverged"), (4, "error"), (5, "oom")):
        shown.on_progress(told(done, 12, outcome))
    shown.close()

    assert "5/12" in last(screen)
    assert "2 failed" in last(screen)


def test_a_session_is_said(monkeypatch) -> None:
    """While throughput is measured the bar says of which task, and for how long."""
    screen, shown = terminal(monkeypatch), Bar()

    shown.on_start(plan(planned=1, left=0))
    shown.on_session(SimpleNamespace(baseline=SimpleNamespace(task="spirals")), 9)
    shown.close()

    assert last(screen).startswith("throughput of spirals, 9 rounds")


def test_nothing_to_do_has_no_bar(monkeypatch) -> None:
    """A run that finds all of it stored never begins."""
    screen = terminal(monkeypatch)

    Bar().close()

    assert "" == screen.getvalue()


def test_it_is_for_terminals_and_notebooks(monkeypatch) -> None:
    """Where stderr goes to a file there is none, but in a notebook."""
    terminal(monkeypatch)
    assert bar.wanted()

    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not bar.wanted()

    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert bar.wanted()

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not bar.wanted()


class Prepared:
    """In place of a run that is interrupted after its first trial; `calls` are what it was to call."""

    def __init__(self, monkeypatch) -> None:
        self.calls: tuple[Any, ...] = ()
        monkeypatch.setattr(api.execute, "prepare", lambda request: request)
        monkeypatch.setattr(api.execute, "on_device", lambda prepared: prepared)
        monkeypatch.setattr(api.execute, "run", self.run)

    def run(self, prepared: Any, *calls: Any) -> None:
        self.calls = calls
        if len(calls) == 3:
            calls[1](plan(planned=4, left=4))
            calls[0](told(1, 4))
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("asked", "has_bar"),
    [({}, True), ({"progress": True}, True), ({"progress": False}, False), ({"on_progress": print}, False)],
)
def test_a_run_has_a_bar_unless_something_else_is_called(monkeypatch, asked, has_bar: bool) -> None:
    """It is ended whatever ends the run: what comes next is on a line of its own."""
    run, screen = Prepared(monkeypatch), terminal(monkeypatch)

    with pytest.raises(KeyboardInterrupt):
        normbench.run("quick", **asked)

    assert has_bar == ("1/4" in screen.getvalue())
    assert has_bar == screen.getvalue().endswith("\n")
    assert has_bar or run.calls == (asked.get("on_progress"),)


def test_a_bar_and_a_function_are_refused_together() -> None:
    """Two things that show progress would write over each other."""
    with pytest.raises(normbench.UsageError, match="on_progress and progress=True: it takes one of them"):
        normbench.run("quick", on_progress=print, progress=True)
