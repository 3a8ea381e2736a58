"""Fingerprints of cells: what is taken and stored of each, and what they say beside those of before."""

import math

import msgspec
import pytest
import torch
from torch import nn

import normbench
from normbench import plugins
from normbench.calls import Workplace
from normbench.errors import UsageError
from normbench.execute import Request, prepare
from normbench.fingerprint.take import compared, storing, take
from normbench.store import Store
from normbench.store.kinds import FINGERPRINTS

SUITE = """
name = "tiny"
summary = "A suite of the tests"
tasks = ["tiny"]
norms = ["none"]
rates = [0.1]
seeds = 1
"""


class Failing(nn.Module):
    """Raises what it is given in the forward pass."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


class Drawing(nn.Module):
    """Draws in training, so that a foreign draw would show."""

    def forward(self, x):
        return x + 0.1 * torch.randn_like(x) if self.training else x


def refuse(site):
    raise normbench.Unsupported("not here")


@pytest.fixture
def asked(tmp_path, tiny):
    """Return a function that prepares the tiny suite with these norms and settings, stored in this folder."""
    layers = {
        "scaled": lambda site, factor=1.0: nn.Sequential(nn.BatchNorm1d(site.channels), Times(factor)),
        "drawing": lambda site: Drawing(),
        "failing": lambda site: Failing(RuntimeError("no\nluck")),
        "exiting": lambda site: Failing(SystemExit(3)),
        "refused": lambda site: Failing(UsageError("no luck")),
        "refusing": refuse,
    }
    for name, layer in layers.items():
        plugins.register(normbench.Norm(name, layer, summary=name))
    (tmp_path / "tiny.toml").write_text(SUITE)

    def make(*norms, settings=None):
        out = tmp_path / "out"
        asked = {"norms": norms, "settings": settings or {}, "executor": "serial"}
        return prepare(Request(str(tmp_path / "tiny.toml"), out=out, device="cpu", **asked))

    return make


class Times(nn.Module):
    """Multiplies by a number."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


@pytest.fixture
def taken(asked):
    """Return a function that takes the fingerprints of these norms."""

    def call(*norms, settings=None, on_taken=None):
        prepared = asked(*norms, settings=settings)
        return take(prepared.cells, prepared.workplace, on_taken)

    return call


def test_a_record_is_of_its_cell(asked, taken):
    """It has the cell's table and row, its prints, and finite numbers with their digest."""
    [cell] = asked("scaled").cells

    [record] = taken("scaled")

    assert (cell.table_id, cell.norm_id, cell.recipe) == (record.table_id, record.norm_id, record.recipe)
    assert (cell.norm_print, cell.task_print) == (record.norm_print, record.task_print)
    assert ("taken", "", "cpu", 12) == (record.outcome, record.reason, record.device, len(record.digest))
    assert all(math.isfinite(number) for numbers in record.numbers.values() for number in numbers)


def test_the_order_of_norms_does_not_matter(taken):
    """What is taken before and after, and whether that draws or fails, changes no number."""
    alone = [record for norm in ("drawing", "scaled") for record in taken(norm)]

    among = taken("failing", "scaled", "refusing", "drawing", "none")

    assert [record.numbers for record in alone] == [among[3].numbers, among[1].numbers]


@pytest.mark.parametrize(
    ("norm", "outcome", "reason"),
    [
        ("failing", "error", "RuntimeError: no luck"),
        ("exiting", "error", "SystemExit: 3 (test_fingerprints.py:"),
        ("refused", "error", "UsageError: no luck (test_fingerprints.py:"),
        ("refusing", "unsupported", "not here"),
    ],
)
def test_a_norm_that_raises_costs_itself(taken, norm, outcome, reason):
    """Its outcome says why, in one line, and the next norm is taken."""
    first, second = taken(norm, "none")

    assert (outcome, "", {}) == (first.outcome, first.digest, first.numbers)
    assert first.reason.startswith(reason)
    assert "taken" == second.outcome


def test_trials_on_several_devices_are_not_taken(taken):
    """A fingerprint is of one process."""
    [record] = taken("none", settings={"devices": 2})

    assert "unsupported" == record.outcome
    assert "one device" in record.reason


def test_missing_data_is_the_users_mistake(asked, monkeypatch):
    """What every other cell would meet too is raised."""
    prepared = asked("none")

    def data(folder, recipe):
        raise UsageError("no data there")

    broken = msgspec.structs.replace(prepared.cells[0], task="broken")
    recipe, network = prepared.cells[0].recipe, lambda place, recipe: nn.Identity()
    plugins.register(
        normbench.Task("broken", 1, summary="B", recipe=recipe, chance=0.5, reference=1.0, data=data, network=network)
    )

    with pytest.raises(UsageError, match="no data there"):
        take([broken], Workplace(plugins.current(), "cpu", prepared.data_dir))


def test_what_is_stored_is_read_back(asked, taken):
    """Each is appended as it comes, with its environment, and reads as it was written."""
    store = asked().store
    with store.writer() as writer:
        records = taken("scaled", "refusing", on_taken=storing(writer, "cpu"))

    again = Store(store.folder)

    assert records == again.fingerprints()
    assert {record.environment for record in records} == set(again.environments())
    assert not again.exists()


def test_a_torn_line_costs_itself(asked, taken):
    """It is named, left out, and set aside by the next writer; what was stored before it, and after, is read."""
    store = asked().store
    with store.writer() as writer:
        [before] = taken("none", on_taken=storing(writer, "cpu"))
    path = store.folder / FINGERPRINTS
    path.write_bytes(path.read_bytes() + path.read_bytes()[:99])

    torn = Store(store.folder)
    found = torn.fingerprints()
    with torn.writer() as writer:
        [after] = taken("none", on_taken=storing(writer, "cpu"))

    assert [before] == found
    assert [(FINGERPRINTS, 2, "its end is missing")] == [(bad.file, bad.line, bad.reason) for bad in torn.unreadable]
    again = Store(store.folder)
    assert ([before, after], []) == (again.fingerprints(), again.unreadable)


def test_an_export_has_the_latest_of_each(asked, taken, tmp_path):
    """Of fingerprints that can be compared the older are left out; a file from before there were any has none."""
    store = asked().store
    with store.writer() as writer:
        _, second, other = [taken(norm, on_taken=storing(writer, "cpu"))[0] for norm in ("none", "none", "scaled")]
    (tmp_path / "all.json").write_bytes(store.export([]))
    older = msgspec.json.decode(store.export([]))
    del older["fingerprints"]
    (tmp_path / "older.json").write_bytes(msgspec.json.encode(older))

    assert [second, other] == Store(tmp_path / "all.json").fingerprints()
    assert [] == Store(tmp_path / "older.json").fingerprints()
    assert store.environments() == Store(tmp_path / "older.json").environments()


def test_what_can_be_said_beside_what_was_stored(taken, monkeypatch):
    """The same, or changed; unknown without one of before that is taken, with another recipe, or of another version."""
    same, changed, failing = taken("none"), taken("scaled"), taken("failing")
    [now] = taken("scaled(factor=1.001)")
    now = msgspec.structs.replace(now, params={})
    stored = [*same, *changed, *failing]

    beside = compared(stored, [*taken("none"), now, *failing, *taken("drawing")])

    assert ["same", "changed", "unknown", "unknown"] == [one.verdict for one in beside]
    for others in ({"device": "cuda"}, {"task_version": 2}, {"method": 0}, {"recipe": now.recipe.changed(rate=1.0)}):
        assert "unknown" == compared([msgspec.structs.replace(same[0], **others)], same)[0].verdict


def test_the_latest_that_is_stored_counts(taken):
    """A fingerprint is compared with the last of its like, and names where it differs and since when."""
    [older], [now] = taken("scaled(factor=1.001)"), taken("scaled")
    older = msgspec.structs.replace(older, params={}, started="earlier")

    same, changed = compared([older, now], [now]), compared([now, older], [now])

    assert ("same", None) == (same[0].verdict, same[0].difference)
    assert ("changed", "earlier") == (changed[0].verdict, changed[0].before.started)
    assert changed[0].difference.times > 1
