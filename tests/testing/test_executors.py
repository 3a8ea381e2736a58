"""The rules of executors: one that breaks a rule fails the test of that rule, and no other."""

import fcntl
import functools
import math
import os
import random
import re
import tempfile
import threading
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest

from normbench import calls
from normbench.contract import Executor
from normbench.errors import Lost, UsageError
from normbench.testing import executors
from normbench.testing.executors import ExecutorChecks
from normbench.testing.misbehaving import MISTAKE, PROCESSES, WATCHED
from normbench.testing.watched import Interruption
from normbench.train import fit_pack
from normbench.trials import Outcome

RULES = [name.removeprefix("test_") for name in dir(ExecutorChecks) if name.startswith("test_")]


@functools.cache
def trained(seed):
    """Return what comes of a trial that does nothing to its process."""
    pack = executors._pack("train", "", seed)
    with tempfile.TemporaryDirectory() as folder:
        [outcome] = fit_pack(msgspec.structs.replace(pack, data_dir=folder))
    return outcome


class Sound:
    """An executor that pretends to have workers: it knows what comes of each pack, and which process would train it."""

    def __init__(self):
        self.processes = {}
        self.newest = self.turn = 0

    def run(self, packs, on_outcome, *, timeout=0.0):
        for pack in packs:
            for outcome in self.outcomes(pack):
                self.hand_over(on_outcome, outcome)

    def hand_over(self, on_outcome, outcome):
        on_outcome(outcome)

    def outcomes(self, pack):
        how = pack.trials[0].task_params["how"]
        if how == "mistake":
            raise UsageError(MISTAKE)
        if pack.dry and how == "raise":
            raise UsageError("ZeroDivisionError")
        if how == "exit":
            return pack.lost("error", "it died")
        if how == "hang":
            return pack.lost("timeout", "killed", 3.0)
        return [] if pack.dry else [self.outcome(pack, how)]

    def outcome(self, pack, how):
        if how == "raise":
            return Outcome(trial=pack.trials[0], outcome="error", reason="ZeroDivisionError")
        series = trained(pack.trials[0].seed).series | dict(zip(WATCHED, self.process(pack.cell), strict=True))
        changed = ("the weather",) if how == "change" else ()
        if changed:
            del self.processes[pack.cell]
        return msgspec.structs.replace(
            trained(pack.trials[0].seed), trial=pack.trials[0], series=series, changed=changed
        )

    def process(self, cell):
        """Return the number of the process that trains a cell, and how often it has trained."""
        if cell not in self.processes:
            self.newest += 1
            self.processes[cell] = self.newest
        self.turn += 1
        return [self.processes[cell]], [self.turn]

    def stream(self, call, *, timeout=0.0):
        [end] = call.arguments
        lasting = msgspec.structs.replace(call, arguments=("train" if end in ("exit", "hang") else end,))
        with closing(calls.carried_out(lasting)) as values:
            yield from values
        if end in ("exit", "hang"):
            raise Lost({"exit": "error", "hang": "timeout"}[end], "it is gone")


def found(**executor):
    """Return the names of the tests that an executor fails, and of those that are skipped."""

    class Tests(ExecutorChecks):
        pass

    Tests.executor = Executor("mine", summary="S", **executor)
    failed, skipped = set(), set()
    for name in RULES:
        try:
            getattr(Tests(), f"test_{name}")()
        except AssertionError:
            failed.add(name)
        except pytest.skip.Exception:
            skipped.add(name)
    return failed, skipped


def test_an_executor_that_keeps_the_rules_passes():
    """As far as that can be pretended."""
    sound = Sound()

    assert (set(), set()) == found(run=sound.run, stream=sound.stream)


@pytest.mark.parametrize(
    ("executor", "without"),
    [
        ({"run": Sound().run, "in_process": True}, "worker|past_its_time|two_cells|was_changed|call_"),
        ({"run": lambda packs, on_outcome: Sound().run(packs, on_outcome)}, "past_its_time|call_"),
    ],
    ids=["in process", "without a time"],
)
def test_rules_that_can_not_be_broken_are_skipped(executor, without):
    """Rules about workers, times and calls are for executors that have those."""
    assert (set(), {name for name in RULES if re.search(without, name)}) == found(**executor)


class RaisesAnotherError(Sound):
    def outcomes(self, pack):
        try:
            return super().outcomes(pack)
        except UsageError as error:
            if pack.dry:
                raise RuntimeError("in a worker") from error
            raise


class LosesATrial(Sound):
    def outcomes(self, pack):
        return super().outcomes(pack) if pack.trials[0].seed != 2 else []


class HandsOverTwice(Sound):
    def outcomes(self, pack):
        return super().outcomes(pack) * (2 if pack.cell == "b" and pack.trials[0].seed == 1 else 1)


class AnswersDryPacks(Sound):
    def outcomes(self, pack):
        if pack.dry and pack.cell == "a":
            return [msgspec.structs.replace(trained(0), trial=pack.trials[0], dry=True)]
        return super().outcomes(pack)


class KeepsNoReason(Sound):
    def outcome(self, pack, how):
        found = super().outcome(pack, how)
        return msgspec.structs.replace(found, reason="it failed") if how == "raise" else found


class SharesGenerators(Sound):
    def outcome(self, pack, how):
        found = super().outcome(pack, how)
        return msgspec.structs.replace(found, score=math.nextafter(found.score, 2)) if how == "change" else found


class CallsInAThread(Sound):
    def hand_over(self, on_outcome, outcome):
        raised = []

        def call():
            try:
                on_outcome(outcome)
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        if raised:
            raise raised[0]


class HandsOverAtTheEnd(Sound):
    def run(self, packs, on_outcome, *, timeout=0.0):
        found = []
        try:
            for pack in packs:
                found += self.outcomes(pack)
        except UsageError as error:
            raise UsageError(executors.UNTOLD if MISTAKE in str(error) else str(error)) from None
        finally:
            for outcome in found:
                on_outcome(outcome)


class DropsWhatAMistakeMeets(Sound):
    def run(self, packs, on_outcome, *, timeout=0.0):
        packs = list(packs)
        mistaken = any(pack.trials[0].task_params["how"] == "mistake" for pack in packs)
        super().run(packs, (lambda outcome: None) if mistaken else on_outcome)


class GoesOnAfterAnInterruption(Sound):
    def run(self, packs, on_outcome, *, timeout=0.0):
        interrupted = []

        def handed_over(outcome):
            try:
                on_outcome(outcome)
            except KeyboardInterrupt as error:
                interrupted.append(error)

        super().run(packs, handed_over)
        if interrupted:
            raise interrupted[0]


class SwallowsAnInterruption(Sound):
    def run(self, packs, on_outcome, *, timeout=0.0):
        with suppress(Interruption):
            super().run(packs, on_outcome)


class StaysInterrupted(Sound):
    interrupted = False

    def run(self, packs, on_outcome, *, timeout=0.0):
        packs = list(packs)
        if self.interrupted:
            self.interrupted = False
            return
        try:
            super().run(packs, on_outcome)
        except Interruption:
            self.interrupted = True
            raise


class WantsAPack(Sound):
    def run(self, packs, on_outcome, *, timeout=0.0):
        packs = list(packs)
        assert packs
        super().run(packs, on_outcome)


class LeavesAThread(Sound):
    def run(self, packs, on_outcome, *, timeout=0.0):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        super().run(packs, on_outcome)


class LeavesAFile(Sound):
    def run(self, packs, on_outcome, *, timeout=0.0):
        tempfile.mkdtemp()
        super().run(packs, on_outcome)


class LeavesAWorker(Sound):
    def outcomes(self, pack):
        folder = Path(pack.data_dir) / PROCESSES
        folder.mkdir(exist_ok=True)
        self.worker = (folder / "1").open("w")
        fcntl.flock(self.worker, fcntl.LOCK_EX)
        return super().outcomes(pack)


class ChangesTheEnvironment(Sound):
    def run(self, packs, on_outcome, *, timeout=0.0):
        os.environ["MINE"] = os.environ.get("MINE", "") + "1"
        super().run(packs, on_outcome)


class Draws(Sound):
    def run(self, packs, on_outcome, *, timeout=0.0):
        random.random()
        super().run(packs, on_outcome)


class TrainsCellsTogether(Sound):
    def process(self, cell):
        return super().process("a" if cell == "b" else cell)


class KeepsWhatWasChanged(Sound):
    def outcome(self, pack, how):
        processes = dict(self.processes)
        found = super().outcome(pack, how)
        self.processes = processes | self.processes
        return found


class DiesWithoutAReason(Sound):
    def outcomes(self, pack):
        if pack.trials[0].task_params["how"] == "exit":
            return pack.lost("error", "")
        return super().outcomes(pack)


class ForgetsThatItWasDry(Sound):
    def outcomes(self, pack):
        return [msgspec.structs.replace(one, outcome="oom") if pack.dry else one for one in super().outcomes(pack)]


class TriesOnce(Sound):
    def outcome(self, pack, how):
        return pack.lost("error", "it died")[0] if how == "die-once" else super().outcome(pack, how)


class KillsTooEarly(Sound):
    def outcomes(self, pack):
        hangs = pack.trials[0].task_params["how"] == "hang"
        return pack.lost("timeout", "killed", 0.1) if hangs else super().outcomes(pack)


class ReadsAhead(Sound):
    def stream(self, call, *, timeout=0.0):
        yield from list(super().stream(call)) if call.arguments == ("train",) else super().stream(call)


class DiesInSilence(Sound):
    def stream(self, call, *, timeout=0.0):
        try:
            yield from super().stream(call)
        except Lost as lost:
            if lost.outcome == "timeout":
                raise


class CallsATimeoutAnError(Sound):
    def stream(self, call, *, timeout=0.0):
        try:
            yield from super().stream(call)
        except Lost as lost:
            raise Lost("error", lost.reason) from None


class WrapsAMistake(Sound):
    def stream(self, call, *, timeout=0.0):
        try:
            yield from super().stream(call)
        except UsageError as error:
            raise RuntimeError(str(error)) from error


class LeavesACall(Sound):
    def stream(self, call, *, timeout=0.0):
        tempfile.mkdtemp()
        yield from super().stream(call)


BROKEN = {
    RaisesAnotherError: "a_first_step_that_fails_ends_the_run",
    LosesATrial: "each_trial_has_one_outcome",
    HandsOverTwice: "each_trial_has_one_outcome",
    AnswersDryPacks: "a_dry_pack_has_no_outcome",
    KeepsNoReason: "what_a_trial_raises_is_its_own_outcome",
    SharesGenerators: "the_same_packs_give_the_same_bits",
    CallsInAThread: "outcomes_come_to_the_thread_that_called",
    HandsOverAtTheEnd: "outcomes_come_as_they_are_there",
    DropsWhatAMistakeMeets: "a_mistake_ends_the_run_and_loses_no_outcome",
    GoesOnAfterAnInterruption: "what_on_outcome_raises_ends_the_run",
    SwallowsAnInterruption: "what_on_outcome_raises_ends_the_run",
    StaysInterrupted: "it_runs_again_after_an_interruption",
    WantsAPack: "no_packs_are_no_work",
    LeavesAThread: "nothing_is_left_behind",
    LeavesAFile: "nothing_is_left_behind",
    LeavesAWorker: "nothing_is_left_behind",
    ChangesTheEnvironment: "the_caller_is_as_it_was",
    Draws: "the_caller_is_as_it_was",
    TrainsCellsTogether: "no_process_trains_two_cells",
    KeepsWhatWasChanged: "a_process_that_was_changed_trains_no_more",
    DiesWithoutAReason: "a_trial_whose_worker_dies_is_an_error",
    ForgetsThatItWasDry: "a_trial_whose_worker_dies_is_an_error",
    TriesOnce: "a_trial_whose_worker_died_once_is_tried_again",
    KillsTooEarly: "a_trial_past_its_time_is_killed",
    ReadsAhead: "a_call_yields_each_value_when_it_is_asked_for",
    DiesInSilence: "a_call_whose_worker_dies_is_lost",
    CallsATimeoutAnError: "a_call_past_its_time_is_lost",
    WrapsAMistake: "a_mistake_in_a_call_goes_through",
    LeavesACall: "a_call_leaves_nothing_behind",
}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_an_executor_that_breaks_a_rule_is_caught(kind, monkeypatch):
    """By the test of that rule, and by no other."""
    monkeypatch.setattr(executors, "GONE", 0.0)
    monkeypatch.setenv("MINE", "")  # what one of them changes is put back after it

    broken = kind()

    assert ({BROKEN[kind]}, set()) == found(run=broken.run, stream=broken.stream)


def test_every_rule_is_broken_by_one():
    """Each test of the kit is known to fail."""
    assert set(RULES) == set(BROKEN.values())
