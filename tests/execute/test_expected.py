"""How long a run should take: from what stored trials took, and from first steps where nothing similar is stored."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import torch
from torch import nn

import normbench
from normbench import plugins
from normbench.errors import UsageError
from normbench.execute import expected, first_steps, prepare, run
from normbench.execute.expected import Pace, Paces
from normbench.store.records import Result


class Ticking(nn.Module):
    """Moves a made-up clock on: a second for a batch in training, half of one in evaluation."""

    now = 0.0

    def forward(self, x):
        Ticking.now += 1.0 if self.training else 0.5
        return x


def refuse(site):
    raise normbench.Unsupported("not here")


def broken(site):
    raise RuntimeError("no luck")


@pytest.fixture
def prepared_for(request_for):
    """Return a function that prepares the tiny suite without fresh seeds."""
    return lambda **options: prepare(request_for(**{"fresh": False, **options}))


def stored(item, seconds):
    """Return a planned trial as one that is done, and took so long."""
    measure = {"name": "accuracy", "unit": "%", "direction": "up", "chance": 0.5, "reference": 1.0}
    values = {"schema": 1, "key": "k", "run": "r", "device": "cpu", "environment": "e", "outcome": "trained"}
    result = msgspec.convert({**values, "measure": measure, "seconds": seconds}, Result)
    return dataclasses.replace(item, stored=result, done=True)


def paced(prepared, **seconds):
    """Return a pace for each norm: the seconds of a trial, or an outcome without any."""
    cells = {cell.label: cell for cell in prepared.cells}
    of = {norm: Pace(one) if isinstance(one, str) else Pace("timed", seconds=one) for norm, one in seconds.items()}
    return Paces(len(cells), taken=[(cells[norm], pace) for norm, pace in of.items()])


def test_a_trial_takes_what_stored_ones_of_its_norm_took(prepared_for):
    """A cell's own median counts before its task's; with nothing stored the time is unknown."""
    nothing = prepared_for()
    work = [*map(stored, nothing.work[:3], (1.0, 3.0, 10.0)), *nothing.work[3:]]

    found = expected.seconds_left(dataclasses.replace(nothing, work=work), Paces())

    own = {"fine": 2.0, "other": 10.0}
    assert None is expected.seconds_left(nothing, Paces())
    assert sum(own[item.trial.norm] for item in work[3:]) == found


@pytest.mark.parametrize(("setting", "seconds"), [({"epochs": 4}, 40.0), ({"epochs": 1}, 10.0), ({"steps": 3}, None)])
def test_the_time_is_in_proportion_to_the_length(prepared_for, setting, seconds):
    """Four times the epochs take four times as long; what steps take is not known from epochs."""
    [done] = prepared_for(norms=["fine"], seeds=1, settings={"rates": 0.1}).work
    longer = prepared_for(norms=["fine"], seeds=[4], settings={"rates": 0.1, **setting})

    found = expected.seconds_left(dataclasses.replace(longer, work=[stored(done, 10.0), *longer.work]), Paces())

    assert seconds == found


def test_a_pace_counts_where_no_trial_of_the_table_is_stored(prepared_for):
    """Each norm takes its own pace; one that could not be timed the median, and what is unsupported no time."""
    plugins.register(normbench.Norm("third", lambda site: nn.Identity(), summary="third"))
    prepared = prepared_for(norms=["+third"], seeds=1)

    of_each = expected.seconds_left(prepared, paced(prepared, fine=1.0, other=2.0, third=4.0))
    one_failed = expected.seconds_left(prepared, paced(prepared, fine=1.0, other=3.0, third="error"))
    one_refused = expected.seconds_left(prepared, paced(prepared, fine=1.0, other=2.0, third="unsupported"))

    assert (14.0, 12.0, 6.0) == (of_each, one_failed, one_refused)


def test_a_pace_says_nothing_of_another_task(request_for, tiny, tmp_path):
    """Where the data of one task is not there, the time of all is not known."""
    plugins.register(dataclasses.replace(tiny, name="second"))
    suite = tmp_path / "tiny.toml"
    suite.write_text(suite.read_text().replace('["tiny"]', '["tiny", "second"]'))
    prepared = prepare(request_for())

    found = expected.expected(prepared, Paces(2, taken=[(prepared.cells[0], Pace("timed", seconds=1.0))]))

    assert None is found


def test_the_time_of_paces_is_a_range_and_that_of_trials_is_not(prepared_for):
    """The worker's start comes on top of what trials take, and jobs share these."""
    prepared = dataclasses.replace(prepared_for(seeds=1), request=None)
    done = dataclasses.replace(prepared, work=[stored(prepared.work[0], 2.0), *prepared.work[1:]])

    first = expected.expected(prepared, dataclasses.replace(paced(prepared, fine=1.0, other=3.0), start=2.0))
    later = expected.expected(done, Paces())

    assert (10.0, 7.0, 15.0) == (first.seconds, first.low, first.high)
    assert (6.0, 6.0, 6.0) == (later.seconds, later.low, later.high)


def test_cells_are_timed_whose_table_has_nothing_stored(request_for):
    """The baseline is the first; after a run of one norm none of its table is timed, but those of another length."""
    before = expected.untimed(prepare(request_for(norms=["other", "fine"])))
    run(prepare(request_for(norms=["fine"], seeds=1)))

    after = expected.untimed(prepare(request_for()))
    longer = expected.untimed(prepare(request_for(settings={"epochs": 3})))

    assert ["fine", "other"] == [cell.label for cell in before]
    assert ([], 2) == (after, len(longer))


def test_cells_on_several_devices_are_not_timed(prepared_for):
    """One process can't tell what several would take together."""
    assert [] == expected.untimed(prepared_for(settings={"devices": 2}))


def test_first_steps_tell_a_whole_trial(prepared_for, monkeypatch):
    """A trial takes all its steps at the pace of the first, and what it evaluates, each batch as long as one."""
    monkeypatch.setattr(first_steps.time, "perf_counter", lambda: Ticking.now)
    plugins.register(normbench.Norm("ticking", lambda site: Ticking(), summary="T"))
    prepared = prepared_for(norms=["ticking"], settings={"epochs": 10, "eval_batch": 8})

    found = expected.paces(prepared, prepared.cells, lambda cell: None)

    [(_, seconds)] = found.timed
    steps, validations, test = 10 * 3 * 1.0, 10 * 3 * 0.5, 3 * 0.5
    assert steps + validations + test == pytest.approx(seconds, abs=3.0)  # and what is around them
    assert Ticking.now < 40, "the first steps alone were taken, twice"


def test_what_can_not_be_timed_says_why(prepared_for):
    """A layer that raises costs its own pace, and the others are timed."""
    for name, layer in (("broken", broken), ("refused", refuse)):
        plugins.register(normbench.Norm(name, layer, summary=name))
    prepared = prepared_for(norms=["+broken", "+refused"])
    cells, told = expected.untimed(prepared), []

    found = expected.paces(prepared, cells, told.append)

    assert cells == told
    outcomes = {cell.label: (pace.outcome, pace.reason) for cell, pace in found.taken}
    assert ("error", True) == (outcomes["broken"][0], outcomes["broken"][1].startswith("RuntimeError: no luck"))
    assert ("unsupported", "not here") == outcomes["refused"]
    assert {"fine", "other"} == {cell.label for cell, _ in found.timed}


def test_data_that_is_not_there_is_a_reason(prepared_for, tiny):
    """A plan loads no data from elsewhere: where the folder lacks it, the time is not known."""

    def absent(folder, recipe):
        raise UsageError(f"{folder}: no data there")

    plugins.register(dataclasses.replace(tiny, data=absent))
    prepared = prepared_for(data_dir=Path.cwd())

    found = expected.paces(prepared, prepared.cells, lambda cell: None)

    assert [Pace("no data", f"{Path.cwd()}: no data there")] * 2 == [pace for _, pace in found.taken]


def test_a_plan_for_another_machine_says_so(prepared_for):
    """A device that is not here is planned for, and not timed."""
    if torch.cuda.is_available():
        pytest.skip("it is here")
    prepared = prepared_for()
    elsewhere = dataclasses.replace(prepared, request=dataclasses.replace(prepared.request, device="cuda"))

    found = expected.paces(elsewhere, prepared.cells, lambda cell: None)

    [(_, pace)] = found.taken
    assert ("error", True) == (pace.outcome, "torch sees 0 CUDA devices" in pace.reason)


def test_the_time_is_up_after_some_cells(prepared_for, monkeypatch):
    """Cells that there is no time for are left out, and counted."""
    monkeypatch.setattr(expected, "LIMIT", 0.0)
    prepared = prepared_for()

    found = expected.paces(prepared, prepared.cells, lambda cell: None)

    assert (2, 1) == (found.asked, len(found.taken))


def test_steps_that_probes_look_at_take_their_own_time():
    """Of 40 steps 4 are looked at; those that warm up count only where there is no other of their kind."""
    training = SimpleNamespace(steps=40, probing=SimpleNamespace(looks_at=lambda step: step % 10 == 0))
    clock = first_steps._Clock(torch.device("cpu"))
    clock.took = [9.0, 9.0, 9.0, *[1.0] * 7, 5.0, 1.0]

    both = clock.expected(training)
    clock.took = clock.took[:10]
    first_alone = clock.expected(training)

    assert (36 * 1.0 + 4 * 5.0, 36 * 1.0 + 4 * 9.0) == (both, first_alone)
