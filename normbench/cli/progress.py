"""What a run shows: a bar, the last results, the leaderboard so far; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from normbench.boards import tables
from normbench.cli.output import coloured, say
from normbench.cli.trials import Names
from normbench.execute import Progress
from normbench.execute.prepare import Prepared
from normbench.store import Store
from normbench.tables.text import terminal
from normbench.texts import visible
from normbench.throughput.wanted import OnSession, Session
from normbench.trials import OUTCOMES, SCORED

LAST = 5


@contextmanager
def shown(prepared: Prepared) -> Iterator[tuple[Callable[[Prepared], None], Callable[[Progress], None], OnSession]]:
    """Yield what to call when trials begin, after each, and in sessions; meanwhile progress is shown on stderr."""
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield _say_start, partial(_say_line, Names(prepared.cells)), say_session
        return
    view = _View(console, prepared)
    try:
        yield view.on_start, view.on_progress, view.on_session
    finally:
        view.stop()


def line(names: Names, progress: Progress) -> str:
    """Return one trial's result in one line."""
    outcome, measure = progress.outcome, progress.measure
    score = ""
    if outcome.score is not None:
        score = f"{100 * outcome.score:.1f}% " if measure.unit == "%" else f"{outcome.score:.3f} {measure.unit} "
    reason = f": {outcome.reason}" if outcome.outcome not in SCORED else ""
    return f"{names.of(outcome.trial)}: {score}{outcome.outcome}{reason} ({outcome.seconds:.1f} s)"


def say_session(session: Session, done: int) -> None:
    """Say of a session that it begins."""
    if done == 0:
        say(f"throughput of {session.baseline.task}: {len(session.entries)} norms, in rounds")


def _say_start(prepared: Prepared) -> None:
    say(f"{prepared.left} of {prepared.planned} trials to run; results go to {prepared.store.folder}")


def _say_line(names: Names, progress: Progress) -> None:
    width = len(str(progress.total))
    say(f"[{progress.done:{width}}/{progress.total}] {progress.key} {line(names, progress)}")


class _Times(ProgressColumn):
    """The time a run has taken, and should still take with its sessions: rich's own clocks end with the trials."""

    def __init__(self, sessions_left: Callable[[], float]) -> None:
        super().__init__()
        self._sessions_left = sessions_left

    def render(self, task: Task) -> Text:
        """Return both, "-:--:--" where no trial has ended yet."""
        trials = task.time_remaining if task.remaining else 0.0
        left = "-:--:--" if trials is None else timedelta(seconds=int(trials + self._sessions_left()))
        return Text(f"{timedelta(seconds=int(task.get_time() - (task.start_time or 0.0)))} left {left}")


class _View:
    """The live display: rendered anew a few times a second from what has come in."""

    def __init__(self, console: Console, prepared: Prepared) -> None:
        self._console = console
        self._store = Store(prepared.store.folder)
        self._tables = prepared.tables
        self._ahead: deque[float] = deque()
        self._session, self._session_ends = 0.0, 0.0
        self._names = Names(prepared.cells)
        self._last: deque[Text] = deque(maxlen=LAST)
        self._board = ""
        self._next_board = 0.0
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            _Times(self._sessions_left),
            console=console,
        )
        self._task: TaskID = self._bar.add_task("starting", total=prepared.planned)
        self._live = Live(self, console=console, refresh_per_second=8, transient=True)

    def on_start(self, prepared: Prepared) -> None:
        """Show this from now on, for the plan as it is once the folder is held."""
        self._ahead.extend(session.expected(prepared.effort.seconds) for session in prepared.sessions)
        self._bar.update(self._task, completed=prepared.planned - prepared.left)
        self._live.start()

    def stop(self) -> None:
        """End the display."""
        self._live.stop()

    def on_progress(self, progress: Progress) -> None:
        """Take one trial's result in."""
        self._bar.update(self._task, completed=progress.done, total=progress.total, description="trials")
        style = OUTCOMES[progress.outcome.outcome].style
        self._last.append(Text(visible(line(self._names, progress)), style=style, overflow="ellipsis", no_wrap=True))
        if time.monotonic() >= self._next_board:
            began = time.monotonic()
            self._board = self._so_far()
            # Reading a large store takes its time: spend no more than a twentieth of the run on it.
            self._next_board = time.monotonic() + max(1.0, 20 * (time.monotonic() - began))

    def on_session(self, session: Session, done: int) -> None:
        """Show how far a session is, drawn between its rounds: during one, nothing else may compute."""
        if done == 0:
            self._session = self._ahead.popleft()
            self._board = self._so_far()
        if done <= 1:  # its time begins once it has warmed up
            self._session_ends = time.monotonic() + self._session
        if self._live.auto_refresh:
            self._live.stop()
            self._live = Live(self, console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._bar.update(self._task, description=f"throughput of {session.baseline.task}, {done} rounds; trials")
        self._live.refresh()

    def _sessions_left(self) -> float:
        """Return about how many seconds sessions should still take."""
        return sum(self._ahead) + max(0.0, self._session_ends - time.monotonic())

    def _so_far(self) -> str:
        """Return as many of the boards as the terminal has room for."""
        room = self._console.height - LAST - 4
        boards = [board for board in tables(self._store, only=self._tables) if board.rows]
        while boards:
            text = terminal(boards, self._console.width, brief=True)
            if text.count("\n") + 1 <= room:
                return text
            boards.pop()
        return ""

    def __rich__(self) -> Group:
        # Below the bar, which is as wide as the terminal, a Ctrl-C is echoed on a line that is cleared as well.
        return Group(coloured(self._board), Text(), *self._last, self._bar, Text())
