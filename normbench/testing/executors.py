"""What an executor is held to: one pytest test for each rule of docs/plugins.md, in a class to subclass."""

from __future__ import annotations

import functools
import itertools
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import msgspec

from normbench import contract, plugins, surroundings
from normbench.contract import Executor
from normbench.errors import Lost, UsageError
from normbench.recipe import Recipe
from normbench.testing import misbehaving
from normbench.testing.misbehaving import MISTAKE, NAME, TOLD, UNTOLD
from normbench.testing.watched import GONE, Interruption, Watched, watching
from normbench.trials import Call, Outcome, Pack, Trial


def _pack(how: str, cell: str, *seeds: int, dry: bool = False) -> Pack:
    """Return a pack of trials that do as `HOW` says, one a seed; its data folder is that of the call that trains it."""
    common: dict[str, Any] = {"task": NAME, "task_version": 1, "task_params": {"how": how}, "norm": NAME}
    recipe = Recipe(rate=0.1, batch_size=8, epochs=1)
    trials = tuple(Trial(**common, recipe=recipe, seed=seed) for seed in seeds)
    file = str(Path(misbehaving.__file__).absolute())
    return Pack(trials=trials, probes=(NAME,), plugin_files=(file,), plugins=(NAME,), cell=cell, dry=dry)


#: The packs of each call of `run`.
CALLS = {
    "first step": [_pack("raise", "b", 0, dry=True), _pack("train", "a", 0)],
    "trials": [
        _pack("train", "a", 0, dry=True),
        _pack("train", "a", 0),
        _pack("raise", "b", 0),
        _pack("train", "b", 1),
        _pack("train", "a", 2),
        _pack("change", "a", 3),
        _pack("train", "a", 4),
    ],
    "interruption": [_pack("train", "a", 0), _pack("train", "a", 1)],
    "once more": [_pack("train", "a", 0)],
    "mistake": [_pack("train", "a", 0), _pack("mistake", "b", 1)],
}
#: What is trained as well where there are workers, by the call; and where these have a time, and are killed after it.
IN_WORKERS = {"trials": [_pack("exit", "c", 0, dry=True), _pack("exit", "c", 0, 1), _pack("die-once", "d", 0)]}
IN_TIME = {"trials": [_pack("hang", "e", 0)], "interruption": [_pack("hang", "e", 0)]}
#: The call that has to have been made before: what an executor starts once for all may stay after the first.
AFTER = {"trials": "first step", "interruption": "trials", "once more": "interruption", "mistake": "first step"}
#: The calls after which nothing else may be there: one that ends, one that is interrupted, one that fails.
ENDS = ("trials", "interruption", "mistake")


@dataclass
class Ran(Watched):
    """What came of a call of `run`: also the outcomes, and how many of them came to another thread."""

    outcomes: list[Outcome] = field(default_factory=list)
    elsewhere: int = 0

    def of(self, how: str, *, dry: bool = False) -> list[Outcome]:
        """Return the outcomes of the trials that did so."""
        return [one for one in self.outcomes if one.trial.task_params["how"] == how and one.dry == dry]


@dataclass
class Streamed(Watched):
    """What came of a call of `stream`: also the values."""

    values: list[str] = field(default_factory=list)

    @property
    def lost(self) -> str:
        """The outcome that its Lost names, and "" where it raised none, or one without a reason."""
        return self.raised.outcome if isinstance(self.raised, Lost) and self.raised.reason else ""


class ExecutorChecks:
    """The rules of an executor, each a test.

    A subclass, whose name begins with Test, names the executor:

        class TestMine(ExecutorChecks):
            executor = "my-executor"  # or the Executor itself
            params = {"jobs": 2}

    `params` are those that it is run with, `timeout` the seconds that a trial has here where the executor has that
    parameter: more where workers begin slowly. Trials take milliseconds and need a Unix; workers share this machine's
    temporary folder. Each call is made once, by the first test that needs it.
    """

    executor: ClassVar[str | Executor]
    params: ClassVar[Mapping[str, Any]] = {}
    timeout: ClassVar[float] = 3.0
    _ran: ClassVar[dict[str, Ran]]
    _streamed: ClassVar[dict[str, Streamed]]

    def __init_subclass__(cls) -> None:
        """Give each subclass its own calls."""
        cls._ran, cls._streamed = {}, {}

    def test_a_first_step_that_fails_ends_the_run(self) -> None:
        """What `fit_pack` raises for a dry pack, UsageError, goes through as it is, in one line."""
        _refused(self._call("first step"), "ZeroDivisionError")

    def test_each_trial_has_one_outcome(self) -> None:
        """Each trial has one outcome, whatever happens to it; `packs` is an iterator, which can be read once."""
        found = Counter(one.trial.key for one in self._trials().outcomes if not one.dry)
        assert found == Counter(trial.key for pack in self._packs("trials") if not pack.dry for trial in pack.trials)

    def test_a_dry_pack_has_no_outcome(self) -> None:
        """A dry pack whose step was taken has no outcome."""
        assert self._trials().of("train", dry=True) == []

    def test_what_a_trial_raises_is_its_own_outcome(self) -> None:
        """What `fit_pack` yields is passed on as it is: a trial that raised is an `error` with its reason."""
        [raised] = self._trials().of("raise")
        assert (raised.outcome, "ZeroDivisionError" in raised.reason) == ("error", True)

    def test_the_same_packs_give_the_same_bits(self) -> None:
        """Scores and losses are, to the last bit, those that `fit_pack` gives in the process that tests."""
        ran = self._trials()
        trained = [*ran.of("train"), *ran.of("change")]
        assert [_numbers(one) for one in trained] == [_expected(one.trial.seed) for one in trained]

    def test_outcomes_come_to_the_thread_that_called(self) -> None:
        """`on_outcome` is called in the thread that called `run`, and so once at a time."""
        assert self._trials().elsewhere == 0

    def test_outcomes_come_as_they_are_there(self) -> None:
        """An outcome is handed over while others are trained: what was not is lost with the run."""
        assert UNTOLD not in str(self._call("mistake").raised)

    def test_a_mistake_ends_the_run_and_loses_no_outcome(self) -> None:
        """A UsageError of `fit_pack` goes through as it is; outcomes that were there have been handed over."""
        ran = self._call("mistake")
        _refused(ran, MISTAKE, UNTOLD)
        assert [one.trial.task_params["how"] for one in ran.outcomes] == ["train"]

    def test_what_on_outcome_raises_ends_the_run(self) -> None:
        """What `on_outcome` raises, an interruption too, goes through, and it is not called again."""
        ran = self._call("interruption")
        assert (type(ran.raised), len(ran.outcomes)) == (Interruption, 1)

    def test_it_runs_again_after_an_interruption(self) -> None:
        """A call after one that was interrupted trains what it is given, as if that had not been."""
        ran = self._call("once more")
        assert (ran.raised, [_numbers(one) for one in ran.outcomes]) == (None, [_expected(0)])

    def test_no_packs_are_no_work(self) -> None:
        """Without a pack it returns, and there is no outcome."""
        outcomes: list[Outcome] = []
        self._run(iter(()), outcomes.append)
        assert outcomes == []

    def test_nothing_is_left_behind(self) -> None:
        """Once it has returned or raised no worker is left, nor what a worker started, a thread or a temporary file.

        A server of workers that is started once for all may stay.
        """
        assert {name: ran.left for name in ENDS if (ran := self._call(name)).left} == {}

    def test_the_caller_is_as_it_was(self) -> None:
        """It changes no signal handler, nor the working directory, the environment, torch's settings, a generator."""
        assert {name: ran.changed for name in ENDS if (ran := self._call(name)).changed} == {}

    def test_no_process_trains_two_cells(self) -> None:
        """What a layer of another `cell` left behind in its process reaches no trial."""
        self._with_workers()
        cell_of = {pack.trials[0].key: pack.cell for pack in self._packs("trials") if not pack.dry}
        trained = [one for one in self._trials().outcomes if "process" in one.series]
        found: dict[float, set[str]] = {}
        for one in trained:
            found.setdefault(one.series["process"][0], set()).add(cell_of[one.trial.key])
        assert [cells for cells in found.values() if len(cells) > 1] == []

    def test_a_process_that_was_changed_trains_no_more(self) -> None:
        """After an outcome with `changed` its worker is replaced."""
        self._with_workers()
        ran = self._trials()
        [changed] = ran.of("change")
        assert changed.changed
        [process], [turn] = changed.series["process"], changed.series["turn"]
        turns = [one.series["turn"][0] for one in ran.outcomes if one.series.get("process") == [process]]
        assert max(turns) == turn

    def test_a_trial_whose_worker_dies_is_an_error(self) -> None:
        """A pack whose worker dies again and again has the outcomes of `pack.lost("error", reason)`, dry or not."""
        self._with_workers()
        for dry in (False, True):
            lost = self._trials().of("exit", dry=dry)
            assert {(one.outcome, one.reason != "") for one in lost} == {("error", True)}

    def test_a_trial_whose_worker_died_once_is_tried_again(self) -> None:
        """A pack whose worker died is given to another one, once: there it gives what it would have given."""
        self._with_workers()
        [again] = self._trials().of("die-once")
        assert _numbers(again) == _expected(0)

    def test_a_trial_past_its_time_is_killed(self) -> None:
        """With the parameter `timeout` a trial that hangs is killed after as many seconds, and is a `timeout`."""
        self._in_time()
        [killed] = self._trials().of("hang")
        assert (killed.outcome, killed.reason != "", killed.seconds >= self.timeout) == ("timeout", True, True)

    def test_a_call_yields_each_value_when_it_is_asked_for(self) -> None:
        """`stream` yields what the call yields, in order; between two values the call waits, and nothing computes."""
        found = self._stream("train")
        assert (found.raised, found.values) == (None, ["0", "1"])

    def test_a_call_whose_worker_dies_is_lost(self) -> None:
        """`stream` raises Lost("error", reason) where the worker dies, after what was yielded before."""
        found = self._stream("exit")
        assert (found.lost, found.values) == ("error", ["0", "1"])

    def test_a_call_past_its_time_is_lost(self) -> None:
        """`stream` raises Lost("timeout", reason) where as many seconds as its parameter `timeout` give no value."""
        self._in_time()
        found = self._stream("hang")
        assert (found.lost, found.values) == ("timeout", ["0", "1"])

    def test_a_mistake_in_a_call_goes_through(self) -> None:
        """`stream` raises the call's UsageError as it is."""
        _refused(self._stream("mistake"), MISTAKE)

    def test_a_call_leaves_nothing_behind(self) -> None:
        """Its worker ends as the call does, also where that is closed before."""
        ends = ["closed", "train", "exit", *(["hang"] if self._kills() else [])]
        assert {end: found.left for end in ends if (found := self._stream(end)).left} == {}

    # What the tests above are made of.

    @property
    def _described(self) -> Executor:
        return plugins.current().executor(self.executor) if isinstance(self.executor, str) else self.executor

    def _kills(self) -> bool:
        return "timeout" in self._described.params and not self._described.in_process

    def _with_workers(self) -> None:
        if self._described.in_process:
            _skip("it trains in the process that calls it")

    def _in_time(self) -> None:
        self._with_workers()
        if not self._kills():
            _skip("it has no parameter timeout")

    def _packs(self, name: str) -> list[Pack]:
        """Return the packs of a call: dry ones first, then one seed after another."""
        in_workers = [] if self._described.in_process else IN_WORKERS.get(name, [])
        in_time = IN_TIME.get(name, []) if self._kills() else []
        return sorted([*in_time, *in_workers, *CALLS[name]], key=lambda pack: (not pack.dry, pack.trials[0].seed))

    def _run(self, packs: Iterator[Pack], on_outcome: Callable[[Outcome], None], **params: Any) -> None:
        contract.function(self._described.run)(packs, on_outcome, **{**self.params, **params})

    def _trials(self) -> Ran:
        """Return what came of all kinds of trials. Raises what that call raised: it was to end."""
        ran = self._call("trials")
        if ran.raised is not None:
            raise ran.raised
        return ran

    def _call(self, name: str) -> Ran:
        """Return what came of a call of `run`, which is made the first time that it is asked for."""
        if name in self._ran:
            return self._ran[name]
        if name in AFTER:
            self._call(AFTER[name])
        ran = self._ran[name] = Ran()
        timed = {"timeout": self.timeout} if name in IN_TIME and self._kills() else {}
        thread = threading.get_ident()
        with watching(ran, GONE if name in AFTER else 0) as folder:

            def on_outcome(outcome: Outcome) -> None:
                ran.elsewhere += threading.get_ident() != thread
                ran.outcomes.append(outcome)
                (folder / TOLD).touch()
                if name == "interruption":
                    raise Interruption

            packs = (msgspec.structs.replace(pack, data_dir=str(folder)) for pack in self._packs(name))
            self._run(packs, on_outcome, **timed)
        return ran

    def _stream(self, end: str) -> Streamed:
        """Return what came of a call of `stream` that ends so, which is made the first time that it is asked for."""
        if self._described.stream is None:
            _skip("it has no stream: calls are carried out in the process that asks")
        if end in self._streamed:
            return self._streamed[end]
        first = end == "mistake"
        if not first:
            self._stream("mistake")
        found = self._streamed[end] = Streamed()
        stream = contract.function(self._described.stream)
        params = {**self._described.params, **self.params, **({"timeout": self.timeout} if end == "hang" else {})}
        with watching(found, 0 if first else GONE) as folder:
            (folder / TOLD).touch()
            call = Call(function=f"{misbehaving.__name__}:count", arguments=(end,), data_dir=str(folder))
            with closing(stream(call, **contract.named_by(stream, params))) as values:
                for asked in range(1 if end == "closed" else 3):
                    (folder / "asked").write_text(str(asked))
                    time.sleep(0.02)  # in which nothing is to happen
                    found.values += itertools.islice(values, 1)
        return found


def _numbers(outcome: Outcome) -> tuple[Any, ...]:
    series = {name: values for name, values in outcome.series.items() if name not in misbehaving.WATCHED}
    return outcome.outcome, outcome.score, outcome.validation, series


@functools.cache
def _expected(seed: int) -> tuple[Any, ...]:
    """Return what `fit_pack` gives in this process for a trial with this seed."""
    from normbench.train import fit_pack

    with tempfile.TemporaryDirectory(prefix="normbench-") as folder, surroundings.kept():
        [outcome] = fit_pack(msgspec.structs.replace(_pack("train", "", seed), data_dir=folder))
    return _numbers(outcome)


def _refused(found: Watched, *words: str) -> None:
    """Fail where a call did not raise UsageError with some of these words, in one line."""
    if not isinstance(found.raised, UsageError):
        raise AssertionError(f"it raised {found.raised!r}, and no UsageError") from found.raised
    message = str(found.raised)
    assert ("\n" in message, any(word in message for word in words)) == (False, True), message


def _skip(why: str) -> NoReturn:
    import pytest

    pytest.skip(why)
