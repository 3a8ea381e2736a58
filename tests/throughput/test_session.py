"""A session: rounds of equal blocks, as many as the figures need; a norm that fails leaves, the others go on."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

import normbench
from normbench.errors import UsageError
from normbench.stats.intervals import ratio_over_rounds
from normbench.throughput import session


class Watching(nn.Module):
    """Notes each of its steps, and whether it was called in training, with gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.steps: list[tuple[int, int]] = []
        self.modes: set[tuple[bool, bool]] = set()

    def on_step(self, step: int, steps: int) -> None:
        self.steps.append((step, steps))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.modes.add((self.training, torch.is_grad_enabled()))
        return x * self.weight + 0 * torch.randn_like(x) * random.random() * np.random.rand()


def slower_in(blocks, by=2.0):
    """Return the seconds of a step that is slower in these blocks."""
    return lambda block: 0.01 * (by if block in blocks else 1.0)


def fails_in(error, block, copy=0):
    """Return what raises an error in one block of one copy."""
    return lambda of, at: error if (of, at) == (copy, block) else None


def test_a_round_takes_every_norm_once_and_the_baseline_twice(made_up):
    """In each round every norm trains and is evaluated once, the baseline twice, for equally many steps and batches."""
    made = made_up(base={}, quick={"seconds": lambda block: 0.001}, slow={"seconds": lambda block: 0.1})

    found, entries = made.measure()

    rounds = made.blocks()
    assert 9 == len(rounds) == found.rounds
    for blocks in rounds:
        trained = sorted((norm, times) for norm, kind, times in blocks if kind == "train")
        evaluated = sorted((norm, times) for norm, kind, times in blocks if kind == "evaluate")
        assert [(norm, found.steps) for norm in ("base", "base", "quick", "slow")] == trained
        assert [(norm, found.batches) for norm in ("base", "base", "quick", "slow")] == evaluated
    assert {9} == {len(entry.train) for entry in entries.values()} | {
        len(entry.evaluation) for entry in entries.values()
    }


def test_a_block_is_as_long_as_the_baseline_needs(made_up):
    """The baseline's speed says how many steps and batches make a block: a tenth and a twentieth of a second."""
    made = made_up(base={"seconds": lambda block: 0.004}, slow={"seconds": lambda block: 1.0})

    found, entries = made.measure()

    assert (25, 13, 24) == (found.steps, found.batches, found.batch)
    assert [pytest.approx(25.0)] * 9 == entries["slow"].train
    assert [pytest.approx(13.0)] * 9 == entries["slow"].evaluation


def test_a_step_longer_than_a_block_is_a_block(made_up):
    """Where one step takes longer than a block should, a block is that step."""
    made = made_up(base={"seconds": lambda block: 3.0})

    found, _ = made.measure()

    assert (1, 1) == (found.steps, found.batches)


def test_the_order_is_drawn_anew_in_each_round(made_up):
    """No norm always comes first, nor always after the same other."""
    made = made_up(base={}, one={}, two={}, three={})

    made.measure()

    orders = {tuple(norm for norm, kind, _ in blocks if kind == "train") for blocks in made.blocks()}
    assert len(orders) > 4


def test_a_round_that_warms_up_does_not_count(made_up):
    """What only the first round costs, as compiling does, is in no figure."""
    made = made_up(base={}, compiled={"seconds": slower_in({0}, by=100.0)})

    found, entries = made.measure()

    assert [pytest.approx(0.01 * found.steps)] * 9 == entries["compiled"].train


@pytest.mark.parametrize(("slow", "rounds"), [(0, 9), (1, 9), (2, 15), (3, 15), (7, 25), (13, 40), (20, 64), (30, 100)])
def test_a_session_goes_on_until_its_figures_are_precise(made_up, slow, rounds):
    """With so many slow rounds at its beginning, a session ends at the first look whose intervals leave them out."""
    made = made_up(base={}, steady={}, moody={"seconds": lambda block: 0.01 * (1 + block * (block <= slow))})

    found, entries = made.measure()

    interval = ratio_over_rounds(entries["base"].train, entries["moody"].train)
    assert (rounds, "precise") == (found.rounds, found.stopped)
    assert (pytest.approx(1.0), pytest.approx(1.0)) == (interval.low, interval.high)


def test_a_session_ends_with_its_hundredth_round(made_up):
    """A norm that is never steady does not keep a session for ever."""
    made = made_up(base={}, moody={"seconds": slower_in(range(1, 1000, 2))})

    found, _ = made.measure()

    assert (100, "rounds") == (found.rounds, found.stopped)


def test_a_baseline_that_is_not_steady_is_no_precise_session(made_up):
    """The baseline's ratio to itself is one of those that have to be known."""
    made = made_up(base={"seconds": lambda block: 0.01 * (1 + block % 8 // 4)})

    found, _ = made.measure()

    assert "rounds" == found.stopped


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 9), (1.0, 9), (7.5, 13), (1e9, 100)])
def test_a_session_ends_when_its_time_is_spent(made_up, seconds, rounds):
    """Once it has 9 rounds, a session that is not precise ends with the round in which its time is up."""
    made = made_up(base={}, moody={"seconds": slower_in(range(1, 1000, 2), by=3.0)})

    found, _ = made.measure(seconds)

    assert (rounds, "rounds" if rounds == 100 else "time") == (found.rounds, found.stopped)


@pytest.mark.parametrize(("slow", "rounds", "stopped"), [(2, 14, "precise"), (3, 13, "time")])
def test_a_session_says_precise_where_it_is(made_up, slow, rounds, stopped):
    """A session whose time is up between two looks, and whose figures are precise by then, says so."""
    made = made_up(base={}, moody={"seconds": slower_in(range(1, slow + 1), by=3.0)})

    found, _ = made.measure(seconds=6.5)

    assert (rounds, stopped) == (found.rounds, found.stopped)


@pytest.mark.parametrize(("precision", "rounds"), [(0.03, 15), (0.2, 9)])
def test_a_session_ends_once_its_figures_are_as_precise_as_asked(made_up, precision, rounds):
    """What is 10% slower in two rounds of nine is known to within a fifth after those, and to 3% only later."""
    made = made_up(base={}, moody={"seconds": slower_in({1, 2}, by=1.1)})

    found, _ = made.measure(precision=precision)

    assert (rounds, "precise") == (found.rounds, found.stopped)


def test_rounds_are_told(made_up):
    """Each round that counts is told of as it ends."""
    made = made_up(base={}, other={})

    made.measure()

    assert list(range(1, 10)) == made.rounds


ERRORS = {
    "unsupported": (normbench.Unsupported("not on a\n Tuesday"), "not on a Tuesday"),
    "oom": (torch.OutOfMemoryError("too much"), "OutOfMemoryError: too much"),
    "error": (RuntimeError("no\nluck"), "RuntimeError: no luck"),
}


@pytest.mark.parametrize("block", [-1, 0, 1, 9])
@pytest.mark.parametrize("outcome", ERRORS)
def test_a_norm_that_fails_leaves_and_the_others_go_on(made_up, outcome, block):
    """A norm that raises, as it is made or in any round, is left out with the reason; the others have all rounds."""
    error, reason = ERRORS[outcome]
    made = made_up(base={}, fine={}, bad={"fails": fails_in(error, block), "seconds": slower_in(range(20))})

    found, entries = made.measure()

    assert outcome == entries["bad"].outcome
    assert entries["bad"].reason.startswith(reason)
    assert (9, "precise") == (found.rounds, found.stopped)
    assert {("measured", 9)} == {(entry.outcome, len(entry.train)) for name, entry in entries.items() if name != "bad"}


def test_what_a_layer_calls_a_users_mistake_is_its_own(made_up):
    """Once its network stands, what a norm raises is a fault of the norm, whatever it is called."""
    made = made_up(base={}, bad={"fails": fails_in(UsageError("no luck"), 3)})

    found, entries = made.measure()

    assert ("precise", "error") == (found.stopped, entries["bad"].outcome)
    assert entries["bad"].reason.startswith("UsageError: no luck (conftest.py:")


def test_a_norm_that_failed_is_not_called_again(made_up):
    """After the round in which a norm raised, it has no further turn."""
    made = made_up(base={}, bad={"fails": fails_in(SystemExit(3), 2)})

    _, entries = made.measure()

    assert "error" == entries["bad"].outcome
    assert entries["bad"].reason.startswith("SystemExit: 3 (conftest.py:")
    assert 2 == sum((norm, kind) == ("bad", "train") for norm, kind, _ in made.clock.log)


@pytest.mark.parametrize("outcome", ERRORS)
@pytest.mark.parametrize(
    ("copy", "block"),
    [(0, -1), (0, 0), (0, 4), (0, 5), (0, 13), (1, -1), (1, 0), (1, 9)],
    ids=["made", "its length", "warm-up", "first round", "ninth", "again made", "again's warm-up", "again's ninth"],
)
def test_without_a_baseline_there_is_nothing_to_compare(made_up, copy, block, outcome):
    """Where the baseline raises, in either of its turns, the session has failed, and the baseline says why."""
    error, reason = ERRORS[outcome]
    made = made_up(base={"fails": fails_in(error, block, copy)}, other={})

    found, entries = made.measure()

    assert "failed" == found.stopped
    assert found.rounds < 9
    assert outcome == entries["base"].outcome
    assert entries["base"].reason.startswith(reason)


@pytest.mark.parametrize(
    ("error", "block"),
    [(KeyboardInterrupt(), -1), (KeyboardInterrupt(), 0), (KeyboardInterrupt(), 5), (UsageError("no such recipe"), -1)],
)
def test_an_interruption_and_a_users_mistake_end_the_session(made_up, error, block):
    """What is no fault of a norm's goes through."""
    made = made_up(base={}, other={"fails": fails_in(error, block)})

    with pytest.raises(type(error)):
        made.measure()


@pytest.fixture
def real(registry, measured, monkeypatch):
    """Return a function that measures real networks for a moment, the layer `watching` beside `plain`."""
    monkeypatch.setattr(session, "TRAINING", 1e-3)
    monkeypatch.setattr(session, "EVALUATION", 1e-3)
    monkeypatch.setattr(session, "LOOKS", (2, 4))
    layers: list[Watching] = []

    def watching(site):
        layers.append(Watching())
        return layers[-1]

    made = registry(plain=lambda site: nn.Identity(), watching=watching)

    def run(recipe=None, device="cpu"):
        given = normbench.Recipe(**{"rate": 1e-4, "batch_size": 8, "epochs": 1, **(recipe or {})})
        trials = [
            normbench.trials.Trial(task="tiny", task_version=1, norm=norm, recipe=given, seed=0)
            for norm in ("plain", "watching", "plain")
        ]
        found = measured(trials, made, device=device)
        return found, found.entries, layers

    return run


def test_a_layer_that_counts_steps_never_meets_the_last(real):
    """A session takes more steps than the training has; on_step is told of none beyond its end."""
    _, entries, [layer] = real()

    assert "measured" == entries[1].outcome
    assert len(layer.steps) > 3
    assert {(0, 3), (1, 3), (2, 3)} >= set(layer.steps)


def test_training_and_evaluation_are_what_they_are_called(real):
    """A norm trains in training mode with gradients, and is evaluated without either."""
    _, _, [layer] = real()

    assert {(True, True), (False, False)} == layer.modes


def test_a_norm_is_trained(real):
    """What is timed is a whole step: weights move."""
    _, _, [layer] = real({"rate": 1.0})

    assert 1.0 != layer.weight.item()


def test_a_session_leaves_the_global_generators_alone(real):
    """What layers draw in a session moves no random number of what comes after it."""
    before = (torch.random.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate())

    real()

    assert before == (torch.random.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate())


@pytest.mark.parametrize(
    "recipe", [{"epochs": 0, "steps": 5}, {"optimizer": "adam"}, {"precision": "bf16"}, {"hold_out": False}], ids=str
)
def test_a_session_trains_as_the_recipe_says(real, recipe):
    """Every recipe that trains can be timed."""
    _, entries, _ = real(recipe)

    assert ["measured"] * 3 == [entry.outcome for entry in entries]


def test_memory_is_cudas(real):
    """On a CPU nothing is said of memory."""
    _, entries, _ = real()

    assert [None] * 3 == [entry.peak_memory for entry in entries]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_same_network_takes_the_same_memory_twice(real):
    """On CUDA the peak is that of a step, whichever norm came first: the baseline takes as much in both its turns."""
    _, [plain, watching, again], _ = real(device="cuda")

    assert 0 < plain.peak_memory == again.peak_memory
    assert watching.peak_memory > plain.peak_memory
