"""Records: what makes two trials the same, and what is stored of numbers that JSON can't hold."""

import math
from typing import get_args

import msgspec
import pytest
from hashing import printed_by

from normbench.contract import Recipe
from normbench.store.records import (
    SCHEMA,
    FingerprintRecord,
    Result,
    RunRecord,
    Series,
    Timing,
    TrialRecord,
    nonfinite,
)
from normbench.trials import OUTCOMES, Cell, Kind, Measure, Outcome, Timed, Trial

#: sha256, cut to 16 digits, of {"norm":"batchnorm","params":{"a":1,"b":0.5},"recipe":{"batch_size":64,"epochs":6,
#: "rate":0.1},"seed":0,"task":"toy","task_version":1}, without the line's break.
KEY = "a797eac75f441d2b"

#: Of every field of a trial and of its recipe, another value.
OTHER = {
    "task": "other",
    "task_version": 2,
    "task_params": {"width": 32},
    "norm": "other",
    "params": {"eps": 1e-3},
    "seed": 1,
    "rate": 0.2,
    "batch_size": 32,
    "epochs": 3,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "threads": 2,
    "hold_out": False,
    "steps": 100,
    "optimizer": "adam",
    "schedule": "cosine",
    "milestones": (0.5,),
    "milestone_factor": 0.2,
    "weight_decay_spares": "norms-and-biases",
    "init": "he",
    "init_scale": 0.5,
    "dropout": 0.1,
    "precision": "bf16",
    "channels_last": True,
    "compile": True,
    "devices": 2,
    "num_nodes": 2,
    "strategy": "ddp_find_unused_parameters_true",
    "accumulate": 2,
    "sync_ranks": 1,
    "eval_batch": 64,
    "recalibrate": 5,
    "validate_every": 5,
}

DEFAULTS = msgspec.structs.asdict(Recipe(rate=1, batch_size=1, epochs=1))


@pytest.fixture
def trial():
    """Return a function that makes a trial, the same but for what it is given."""

    def make(**changes):
        given = {"task": "toy", "task_version": 1, "norm": "batchnorm", "params": {"a": 1, "b": 0.5}, "seed": 0}
        values = {name: value for name, value in changes.items() if name in Recipe.__struct_fields__}
        given |= {name: value for name, value in changes.items() if name not in Recipe.__struct_fields__}
        return Trial(**given, recipe=Recipe(rate=0.1, batch_size=64, epochs=6).changed(**values))

    return make


@pytest.fixture
def record(trial):
    """Return a function that makes a trial's record, valid but for what it is given."""

    def make(**changes):
        one = trial()
        given = {
            "schema": SCHEMA,
            "key": one.key,
            "run": "run",
            "finished": "2025-01-01T00:00:00+00:00",
            "task": one.task,
            "task_version": 1,
            "norm": one.norm,
            "recipe": msgspec.to_builtins(one.recipe),
            "seed": 0,
            "device": "cpu",
            "environment": "env",
            "outcome": "trained",
            "score": 0.9,
            "measure": Measure(name="accuracy", unit="%", direction="up", chance=0.1, reference=0.9),
        }
        return TrialRecord(**given | changes)

    return make


def test_key_is_pinned(trial):
    """A trial's key never changes: what is stored under it would be trained again."""
    key = trial().key

    assert KEY == key


def test_key_is_the_same_in_every_process():
    """A trial has one key, however Python orders its sets in a process."""
    code = """
from normbench.contract import Recipe
from normbench.trials import Trial
recipe = Recipe(epochs=6, batch_size=64, rate=0.1)
print(Trial(seed=0, recipe=recipe, params={"b": 0.5, "a": 1}, norm="batchnorm", task_version=1, task="toy").key)
"""

    found = printed_by(code)

    assert {KEY} == found


@pytest.mark.parametrize("name", sorted({*Trial.__struct_fields__, *Recipe.__struct_fields__} - {"recipe"}))
def test_key_of_another_trial(trial, name):
    """Whatever differs between two trials, their keys differ."""
    other = trial(**{name: OTHER[name]})

    assert KEY != other.key


def test_keys_of_similar_parameters(trial):
    """Parameters that only look alike make other trials."""
    params = [{}, {"a": 1}, {"a": 10}, {"a": "1"}, {"a": True}, {"b": 1}, {"a": [1]}, {"a": 1, "b": 1}]

    keys = {trial(params=given).key for given in params} | {trial(task_params=given).key for given in params}

    # No parameters of the task is the trial of the fixture.
    assert 2 * len(params) == len(keys)


@pytest.mark.parametrize("name", [name for name in DEFAULTS if name not in ("rate", "batch_size", "epochs", "steps")])
def test_default_of_a_recipe_is_left_out(trial, name):
    """A recipe value given as its default makes the same trial, so that a recipe can grow a field."""
    anew = msgspec.json.decode(msgspec.json.encode(DEFAULTS[name]))

    given = trial(**{name: anew})

    assert KEY == given.key
    assert name not in msgspec.to_builtins(given.recipe)


@pytest.mark.parametrize(
    ("whole", "exact"), [({"rate": 1}, {"rate": 1.0}), ({"weight_decay": 2}, {"weight_decay": 2.0})]
)
def test_whole_number_where_a_float_is_meant(trial, whole, exact):
    """A rate of 1 is a rate of 1.0."""
    keys = [trial(**changes).key for changes in (whole, exact)]

    assert keys[0] == keys[1]


def test_order_of_parameters_does_not_matter(trial):
    """Parameters in another order make the same trial."""
    turned = trial(params={"b": 0.5, "a": 1})

    assert KEY == turned.key


def test_key_survives_storage(trial):
    """A trial that was written and read has the key that it had."""
    one = trial(momentum=0.9, rate=1, weight_decay=1e-20)

    read = msgspec.json.decode(msgspec.json.encode(one), type=Trial)

    assert one.key == read.key


@pytest.mark.parametrize(
    ("values", "expected", "flags"),
    [
        ([0.5, 1.0], [0.5, 1.0], {}),
        ([], [], {}),
        ([0.5, math.nan], [0.5, None], {"loss[1]": "nan"}),
        ([math.inf, 2.0, -math.inf], [None, 2.0, None], {"loss[0]": "inf", "loss[2]": "-inf"}),
    ],
    ids=str,
)
def test_series_that_are_not_finite(record, values, expected, flags):
    """A number that is not finite is stored as null, with a flag that says where and what it was."""
    line = msgspec.json.encode(record(series={"loss": values, "other": [1.0]}))

    assert {"loss": expected, "other": [1.0]} == msgspec.json.decode(line, type=TrialRecord).series
    assert flags == nonfinite({"loss": values, "other": [1.0]}, {})


def test_a_figure_that_is_not_finite(record):
    """A single number is stored like one of a series, and never taken for the score."""
    line = msgspec.json.encode(record(figures={"score": math.inf, "bytes": 2.0}))

    assert {"score": None, "bytes": 2.0} == msgspec.json.decode(line, type=TrialRecord).figures
    assert {"figures.score": "inf"} == nonfinite({"loss": [1.0]}, {"score": math.inf, "bytes": 2.0})


def test_record_is_read_back(record):
    """A record reads as it was written, nulls and flags included, whole or only what boards need."""
    written = record(series={"loss": [0.5, None]}, nonfinite={"loss[1]": "nan"}, norm_print="abc", outcome="diverged")
    line = msgspec.json.encode(written)

    whole, part = msgspec.json.decode(line, type=TrialRecord), msgspec.json.decode(line, type=Result)

    assert written == whole
    common = set(Result.__struct_fields__)
    assert {name: getattr(written, name) for name in common} == {name: getattr(part, name) for name in common}


@pytest.mark.parametrize("outcome", ["trained", "not-trained", "diverged"])
def test_scored_outcome_needs_a_score(record, outcome):
    """A record whose outcome has a score but which lacks it is refused, unless a flag says why."""
    flagged = record(outcome=outcome, score=None, nonfinite={"score": "nan"})

    with pytest.raises(ValueError, match=f"outcome is '{outcome}' without a score"):
        record(outcome=outcome, score=None)

    assert flagged.score is None


@pytest.mark.parametrize(
    ("outcome", "score", "expected"),
    [("trained", 0.9, True), ("diverged", 0.1, True), ("error", None, False), ("unsupported", None, False)],
)
def test_has_score(record, outcome, score, expected):
    """Outcomes that say nothing of a layer's accuracy have no score."""
    line = msgspec.json.encode(record(outcome=outcome, score=score))

    found = msgspec.json.decode(line, type=Result).has_score

    assert expected == found


@pytest.mark.parametrize(
    ("anchors", "score", "progress", "trained"),
    [
        ({"chance": 0.1, "reference": 0.9, "direction": "up"}, 0.9, 1.0, True),
        ({"chance": 0.1, "reference": 0.9, "direction": "up"}, 0.5, 0.5, True),
        ({"chance": 0.1, "reference": 0.9, "direction": "up"}, 0.49, 0.4875, False),
        ({"chance": 0.1, "reference": 0.9, "direction": "up"}, 0.02, 0.0, False),
        ({"chance": 8.0, "reference": 2.0, "direction": "down"}, 3.5, 0.75, True),
        ({"chance": 8.0, "reference": 2.0, "direction": "down"}, 1e30, 0.0, False),
    ],
)
def test_progress(anchors, score, progress, trained):
    """Progress runs from 0 at chance to 1 at the reference, whichever way is better; a half is trained."""
    measure = Measure(name="score", unit="%", **anchors)

    assert progress == pytest.approx(measure.progress(score), abs=1e-12)
    assert trained == measure.trained(score)


@pytest.mark.parametrize(
    ("changes", "same_table", "same_row"),
    [
        ({"label": "mine"}, True, True),
        ({"norm_print": "new", "rates": [3.0], "seeds": [5]}, True, True),
        ({"params": {"eps": 1e-3}}, True, False),
        ({"norm": "other"}, True, False),
        ({"task_version": 2}, False, True),
        ({"task_params": {"width": 3}}, False, True),
        ({"condition": {"epochs": 3}}, False, True),
        ({"recipe": Recipe(rate=0.1, batch_size=64, epochs=6, hold_out=False)}, False, True),
    ],
    ids=str,
)
def test_table_and_row_of_a_cell(changes, same_table, same_row):
    """Cells of one task, version, condition and protocol share a table; a norm with its parameters is a row."""
    recipe = Recipe(rate=0.1, batch_size=64, epochs=6)
    cell = Cell(task="toy", task_version=1, norm="batchnorm", label="batchnorm", recipe=recipe, rates=[0.1], seeds=[0])

    other = msgspec.structs.replace(cell, **changes)

    assert (same_table, same_row) == (cell.table_id == other.table_id, cell.norm_id == other.norm_id)


def _said(reason):
    """Return what is kept of a reason for a trial, in a session and for a fingerprint."""
    recipe = Recipe(rate=0.1, batch_size=64, epochs=6)
    task = {"task": "toy", "task_version": 1, "norm": "none", "recipe": recipe}
    place = {"schema": 1, "started": "", "command": [], "version": "", "method": 1, "device": "cpu", "environment": ""}
    return [
        Outcome(trial=Trial(seed=0, **task), outcome="error", reason=reason).reason,
        Timing(norm="none", label="none", outcome="error", reason=reason).reason,
        FingerprintRecord(label="none", outcome="error", reason=reason, **task, **place).reason,
    ]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("RuntimeError: no luck", "RuntimeError: no luck"),
        ("half of \ud83d a smile", "half of \\ud83d a smile"),
        ("x" * 1999, "x" * 1999),
    ],
    ids=["as it is", "a lone surrogate", "as long as it may be"],
)
def test_a_reason_is_kept(reason, expected):
    """Whatever a layer raised with, what is stored of it is text."""
    assert [expected] * 3 == _said(reason)
    assert expected == msgspec.json.decode(msgspec.json.encode(_said(reason)))[0]


def test_a_long_reason_keeps_its_ends():
    """What an error says first and last is kept of 20 MB, and how much is left out; read again, it is no shorter."""
    long = f"ValueError: {'x' * 20_000_000} (layer.py:7)"

    for said in _said(long):
        assert len(said) <= 2000
        assert said.startswith("ValueError: xxx")
        assert said.endswith("xxx (layer.py:7)")
        assert f"… ({len(long) - 1960} characters) …" in said
        assert [said] * 3 == _said(said)


def test_what_was_stored_before_keeps_its_length(record):
    """A trial's reason is cut as it is made, not as it is read: nothing stored is lost."""
    whole = msgspec.structs.replace(record(outcome="error", score=None), reason="x" * 5000)

    assert whole == msgspec.json.decode(msgspec.json.encode(whole), type=TrialRecord)


@pytest.mark.parametrize("name", ["name", "protocol", "vary", "tune", "gate", "published"])
@pytest.mark.parametrize("value", [7, None, [7], {"accuracy": 7}, "x"], ids=str)
def test_a_run_whose_suite_nobody_could_read_is_refused(name, value):
    """A gate that is no gate would hold nothing, in silence."""
    given = {"schema": 1, "run": "r", "started": "now", "command": [], "version": "1", "device": "cpu", "cells": []}
    line = msgspec.json.encode({**given, "baseline": "none", "suite": {name: value}})

    if (isinstance(value, str) and name in ("name", "protocol")) or (name, value) == ("published", {"accuracy": 7}):
        assert {name: value} == msgspec.json.decode(line, type=RunRecord).suite
    else:
        with pytest.raises(msgspec.ValidationError, match=name):
            msgspec.json.decode(line, type=RunRecord)


def test_what_boards_read_of_a_record_is_a_part_of_it():
    """A field of `Result` has the type and the default that it has in the whole record."""
    whole, part = ({field.name: field for field in msgspec.structs.fields(kind)} for kind in (TrialRecord, Result))

    assert {name: (field.type, field.default, field.required) for name, field in part.items()} == {
        name: (whole[name].type, whole[name].default, whole[name].required) for name in part
    }


def test_all_that_a_training_gave_is_stored():
    """What a training gives has a field of that name in its record, but for what is no result of the trial."""
    not_stored = {"trial", "made", "dry", "changed", "traces"}

    assert not_stored == {*Outcome.__struct_fields__} - {*TrialRecord.__struct_fields__}


def test_every_outcome_has_its_meaning():
    """No outcome can be stored of which it is not said whether it is final."""
    assert set(get_args(Kind)) == set(OUTCOMES)
    assert set(get_args(Timed)) - {"measured"} <= set(OUTCOMES)


def test_a_figure_is_stored(record):
    """A record of a training that measured nothing more has no word of it; else it is read back, whole or in part."""
    without, line = msgspec.json.encode(record()), msgspec.json.encode(record(figures={"bytes": 2.0, "ratio": None}))

    assert b"figures" not in without
    for kind in (TrialRecord, Result):
        assert {"bytes": 2.0, "ratio": None} == msgspec.json.decode(line, type=kind).figures


def test_a_series_that_can_not_be_drawn_is_refused():
    """A trace has a step for each value."""
    with pytest.raises(msgspec.ValidationError, match="a series has 2 steps and 1 values"):
        msgspec.json.decode(b'{"step": [0, 1], "value": [[0.5, "inf"]]}', type=Series)
