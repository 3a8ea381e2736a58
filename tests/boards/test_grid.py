"""From stored lines to grids: which trials a board shows, and what it says is missing, mixed or apart."""

from __future__ import annotations

import pytest

from normbench import boards
from normbench.boards import Board, tables
from normbench.boards.grid import Grid, gather, shown_trials
from normbench.store.records import SourcesRecord
from normbench.tables import Table
from normbench.trials import Kept, Source


def test_an_empty_folder_has_no_boards(folder) -> None:
    """A folder without runs, or with a run of which nothing is stored yet, gives no table."""
    before = tables(folder.store)
    folder.add({"batchnorm": {0.1: [None, None]}})

    after = tables(folder.store)

    assert [] == before
    assert [] == after


def test_a_seed_counts_once_all_its_rates_are_stored(folder) -> None:
    """Of an unfinished run the boards use whole seeds alone, and say how many trials there are."""
    folder.add({"batchnorm": {0.1: [0.8, 0.8, 0.6], 1.0: [0.7, 0.7, None]}})

    table = folder.table("accuracy")
    [row] = table.rows

    assert (pytest.approx(0.8), "0/2") == (row.values["accuracy"].number, row.values["failed"].text)
    assert any("5 of 6 trials" in note for note in table.notes)


def test_a_finished_run_lacks_nothing(folder) -> None:
    """Where every trial is stored, no note counts them."""
    folder.add({"batchnorm": {0.1: [0.8, 0.8], 1.0: [0.7, "error"]}})

    table = folder.table("accuracy")

    assert not any("4 of 4 trials" in note for note in table.notes)


@pytest.mark.parametrize(
    ("trials", "says"),
    [
        ({0.1: [0.9, None], 1.0: [None, 0.8]}, ["2 of 4"]),
        ({0.1: [None, None], 1.0: [None, None]}, ["4 of 4"]),
        ({0.1: ["error", "error"], 1.0: ["error", "oom"]}, ["3", "error", "1", "oom"]),
        ({0.1: ["error", "oom"], 1.0: [None, None]}, ["error", "oom", "2 of 4"]),
    ],
    ids=["no whole seed", "nothing yet", "all failed", "failed and missing"],
)
def test_a_norm_that_lacks_trials_stands_apart(folder, trials: dict, says: list[str]) -> None:
    """A norm without one whole seed that has a score is not ranked; it is listed with what it lacks."""
    folder.add({"batchnorm": {0.1: [0.9, 0.9], 1.0: [0.8, 0.8]}, "layer-norm": trials})

    table = folder.table("accuracy")
    [(norm, why)] = table.apart

    assert ["batchnorm"] == [row.norm for row in table.rows]
    assert "layer-norm" == norm
    assert all(word in why for word in says)


@pytest.mark.parametrize(
    ("reason", "shown"),
    [("no groups of 3", "unsupported: no groups of 3"), ("two\nlines", "unsupported: two lines"), ("", "unsupported")],
)
@pytest.mark.parametrize("board", ["accuracy", "stability"])
def test_an_unsupported_norm_stands_apart_with_its_reason(folder, board: str, reason: str, shown: str) -> None:
    """A layer that can't stand in the network is listed with its own words, in one line, on every board."""
    refused = {"outcome": "unsupported", "reason": reason}
    folder.add({"batchnorm": {0.1: [0.9], 1.0: [0.8]}, "group-norm": {0.1: [refused], 1.0: [refused]}})

    [(norm, why)] = folder.table(board).apart

    assert "group-norm" == norm
    assert why.startswith(shown)


def test_each_condition_has_its_own_tables(folder) -> None:
    """Two runs with other epochs in one folder give two tables, never a mixed one."""
    folder.add({"batchnorm": {0.1: [0.9], 1.0: [0.8]}}, condition={"momentum": 0.5})
    folder.add({"batchnorm": {0.1: [0.6], 1.0: [0.5]}}, condition={"momentum": 0.9})

    found = tables(folder.store)

    assert [
        ("accuracy", {"momentum": 0.5}),
        ("stability", {"momentum": 0.5}),
        ("accuracy", {"momentum": 0.9}),
        ("stability", {"momentum": 0.9}),
    ] == [(table.board, table.condition) for table in found]
    assert pytest.approx([0.9, 0.6]) == [table.rows[0].values["accuracy"].number for table in found[::2]]


def test_each_protocol_has_its_own_tables(folder) -> None:
    """Figures of the published recipe never stand beside tuned ones."""
    folder.add({"batchnorm": {0.1: [0.9]}})
    folder.add({"batchnorm": {0.1: [0.8]}}, protocol="published")

    found = tables(folder.store, ("accuracy",))

    assert ["tuned", "published"] == [table.protocol for table in found]


@pytest.mark.parametrize("code", ["norm_print", "task_print"])
def test_trials_of_old_code_are_not_shown(folder, code: str) -> None:
    """After an edit the boards show what the new code gave, though the old lines are still in the folder."""
    folder.add({"batchnorm": {0.1: [0.6, 0.6], 1.0: [0.9, 0.9]}}, **{code: "before"})
    folder.add({"batchnorm": {0.1: [0.7, 0.7], 1.0: [0.5, None]}}, **{code: "after"})

    table = folder.table("accuracy")
    [row] = table.rows

    assert (pytest.approx(0.7), "0/1") == (row.values["accuracy"].number, row.values["failed"].text)
    assert any("3 of 4 trials" in note for note in table.notes)


def test_an_edit_undone_shows_the_old_trials_again(folder) -> None:
    """The latest run's code counts, not the latest trial: what that code gave before needs no second training."""
    folder.add({"batchnorm": {0.1: [0.6, 0.6]}}, norm_print="first")
    folder.add({"batchnorm": {0.1: [0.7, 0.7]}}, norm_print="second")
    folder.add({"batchnorm": {0.1: [None, None]}}, norm_print="first")

    value = folder.rows("accuracy")["batchnorm"].values["accuracy"]

    assert pytest.approx(0.6) == value.number


def test_code_without_a_print_is_shown_of_the_latest_run_alone(folder) -> None:
    """What a notebook defines may have changed between two runs, so that the earlier one's trials don't count."""
    folder.add({"batchnorm": {0.1: [0.6, 0.6]}}, norm_print=None)
    folder.add({"batchnorm": {0.1: [0.7, None]}}, norm_print=None)

    row = folder.rows("accuracy")["batchnorm"]

    assert (pytest.approx(0.7), "0/1") == (row.values["accuracy"].number, row.values["failed"].text)


def test_trials_of_another_device_are_not_shown(folder) -> None:
    """A norm's row holds what its latest run's kind of device gave."""
    folder.add({"batchnorm": {0.1: [0.6, 0.6]}}, device="cuda")
    folder.add({"batchnorm": {0.1: [0.7, None]}}, device="cpu")

    row = folder.rows("accuracy")["batchnorm"]

    assert (pytest.approx(0.7), "0/1") == (row.values["accuracy"].number, row.values["failed"].text)


def test_a_trial_in_two_tables_is_shown_by_the_code_of_each(folder) -> None:
    """A trial that a tuned suite shares with a fixed one is not shown of the old code where the new ran."""
    setting = {"weight_decay": 0.5}
    folder.add({"batchnorm": {0.1: [0.6, 0.6]}}, condition=setting, norm_print="before")
    folder.add({"batchnorm": {0.1: [None, 0.8]}}, settings=(setting,), norm_print="after")

    fixed, tuned = gather(folder.store)

    assert [0.6, 0.6] == [result.score for result in fixed.rows[0].chosen().values()]
    assert [0.8] == [result.score for result in tuned.rows[0].chosen().values()]


def test_a_later_run_adds_its_norm_to_the_table(folder) -> None:
    """A norm run alone joins those that the folder holds, with nothing trained again."""
    folder.add({"batchnorm": {0.1: [0.6, 0.7]}, "none": {0.1: [0.5, 0.6]}})
    folder.add({"layer-norm": {0.1: [0.8, 0.9]}})

    rows = folder.rows("accuracy")

    assert ["layer-norm", "batchnorm", "none"] == list(rows)
    assert pytest.approx(0.2) == rows["layer-norm"].values["vs_baseline"].number


def test_a_later_run_adds_its_seeds(folder) -> None:
    """More seeds of one norm stand with those it had; the other norms keep theirs, and their own number of seeds."""
    folder.add({"batchnorm": {0.1: [0.6, 0.8]}, "none": {0.1: [0.5, 0.6]}})
    folder.add({"batchnorm": {0.1: [None, None, 0.7]}})

    rows = folder.rows("accuracy")

    assert ("0/3", "0/2") == (rows["batchnorm"].values["failed"].text, rows["none"].values["failed"].text)


def test_a_later_run_of_fewer_seeds_takes_none_away(folder) -> None:
    """Seeds that an earlier run trained with the same code still count."""
    folder.add({"batchnorm": {0.1: [0.6, 0.8, 0.7]}})
    folder.add({"batchnorm": {0.1: [None]}})

    row = folder.rows("accuracy")["batchnorm"]

    assert "0/3" == row.values["failed"].text


def test_the_grid_is_that_of_the_latest_run(folder) -> None:
    """A norm that was not run at a new rate stands apart: a rate chosen from fewer would be no fair one."""
    folder.add({"batchnorm": {0.1: [0.6], 1.0: [0.7]}, "none": {0.1: [0.5], 1.0: [0.5]}})
    folder.add({"batchnorm": {0.1: [None], 1.0: [None], 10.0: [0.8]}})

    table = folder.table("accuracy")

    assert [0.1, 1.0, 10.0] == table.rates
    assert ["batchnorm"] == [row.norm for row in table.rows]
    assert [("none", True)] == [(norm, "1 of 3" in why) for norm, why in table.apart]


def test_a_clock_that_was_set_back_changes_no_latest_run(folder) -> None:
    """The later line of runs.jsonl is the later run, whatever its time says."""
    folder.add({"layer-norm": {0.1: [0.6]}}, baseline="layer-norm", started="2030-01-01T00:00:00+00:00")
    store = folder.add({"batchnorm": {0.1: [0.8], 1: [0.9]}}, started="1970-01-01T00:00:00+00:00")

    [grid] = gather(store)

    assert ("batchnorm", [0.1, 1]) == (grid.baseline, grid.rates)


def test_a_trial_that_was_tried_again_counts_once(folder) -> None:
    """What a failed trial gave when it was run again takes its place."""
    folder.add({"batchnorm": {0.1: [0.8, "error"]}})
    folder.add({"batchnorm": {0.1: [None, 0.6]}})

    row = folder.rows("accuracy")["batchnorm"]

    assert (pytest.approx(0.7), []) == (row.values["accuracy"].number, [flag for flag in row.flags if "error" in flag])


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ({}, {"device": "cuda"}, "device"),
        ({}, {"task_print": "edited"}, "task"),
    ],
    ids=["devices", "code of the task"],
)
def test_norms_that_ran_under_different_circumstances_are_named(folder, first: dict, second: dict, word: str) -> None:
    """Where a later run of another norm had another kind of device, or other code of the task, a note says mixed."""
    folder.add({"batchnorm": {0.1: [0.6, 0.7]}}, **first)
    folder.add({"layer-norm": {0.1: [0.8, 0.9]}}, **second)

    notes = folder.table("accuracy").notes

    assert any(note.startswith("mixed") and word in note for note in notes)


def test_mixed_environments_are_named(folder) -> None:
    """Trials of two versions of the libraries, or of two machines, stand in one table only with a note."""
    folder.add({"batchnorm": {0.1: [0.6, {"score": 0.7, "environment": "environment 2"}]}})

    notes = folder.table("accuracy").notes

    assert any(note.startswith("mixed") and "environment" in note for note in notes)


def test_a_norm_whose_evaluation_depends_on_the_batch_is_named(folder) -> None:
    """Beside its scores stands of how many samples at a time they are; of other norms nothing is said."""
    folder.add({"batchnorm": {0.1: [0.6, 0.7]}, "of-the-batch": {0.1: [0.6, {"score": 0.7, "eval_batch": 1024}]}})

    notes = [note for note in folder.table("accuracy").notes if "evaluation" in note]

    assert ["'of-the-batch': its evaluation depends on the batch; scores are of 1,024 samples at a time"] == notes


def test_one_of_everything_is_not_mixed(folder) -> None:
    """Two runs alike make no note."""
    folder.add({"batchnorm": {0.1: [0.6, 0.7]}})
    folder.add({"layer-norm": {0.1: [0.8, 0.9]}})

    notes = folder.table("accuracy").notes

    assert not any(note.startswith("mixed") for note in notes)


def test_the_records_behind_the_boards_are_those_shown(folder) -> None:
    """Whole records can be had of what the boards show, each trial once, and of nothing else."""
    folder.add({"batchnorm": {0.1: [0.5, "error"]}}, norm_print="before")
    folder.add({"batchnorm": {0.1: [0.6, "error"]}}, norm_print="after")
    store = folder.add({"batchnorm": {0.1: [None, 0.8]}}, norm_print="after")

    records = shown_trials(store)

    assert [(0, 0.6), (1, 0.8)] == [(record.seed, record.score) for record in records]


def test_a_trial_in_two_tables_is_shown_for_each(folder) -> None:
    """Where two tables hold a trial, and their latest runs used other code, both of its records are shown."""
    folder.add({"batchnorm": {0.1: [0.8]}}, condition={"weight_decay": 5e-4}, norm_print="old")
    folder.add(
        {"batchnorm": [{0.1: [0.6]}, {0.1: [0.7]}]},
        settings=({"weight_decay": 0.0}, {"weight_decay": 5e-4}),
        norm_print="new",
    )

    shown = shown_trials(folder.store)

    assert [0.6, 0.7, 0.8] == sorted(record.score for record in shown)
    assert 2 == len({record.key for record in shown})


#: Chosen at 1.0 where the grid alone decides: its scores are far from those of the fresh seeds.
GRID = {0.1: [0.6, 0.7, 0.65], 1.0: [0.8, 0.9, 0.85]}
FRESH = {1.0: [0.5, 0.6, 0.55]}


def reported(table: Table) -> dict[str, float]:
    """Return each norm's accuracy, to whole percents."""
    return {row.norm: round(row.values["accuracy"].number or 0, 2) for row in table.rows}


def same_seeds(table: Table) -> str | None:
    """Return what the note says of fresh seeds, where the rows are flagged; None where none is."""
    flagged = {"same-seeds" in row.flags for row in table.rows}
    notes = [note.rpartition("; ")[2] for note in table.notes if note.startswith("same-seeds")]
    assert flagged == {bool(notes)}
    return notes[0] if notes else None


def test_scores_are_of_fresh_seeds(folder) -> None:
    """The seeds of the grid choose the rate, and others are reported at it; no note or flag says otherwise."""
    folder.add({"batchnorm": GRID, "none": GRID}, fresh={"batchnorm": FRESH, "none": FRESH})

    table = folder.table("accuracy")

    assert ({"batchnorm": 0.55, "none": 0.55}, None) == (reported(table), same_seeds(table))
    assert {1.0} == {row.values["rate"].number for row in table.rows}
    assert "rate: highest mean validation score of the grid's seeds; the score is that of fresh seeds" in "; ".join(
        table.notes
    )


@pytest.mark.parametrize(
    ("fresh", "expected"),
    [
        ({}, "fresh seeds: none"),
        ({"batchnorm": FRESH}, "fresh seeds: 3 of 6 trials"),
        ({"batchnorm": FRESH, "none": {1.0: [0.5, None, None]}}, "fresh seeds: 4 of 6 trials"),
        ({"batchnorm": FRESH, "none": {0.1: [0.5, 0.5, 0.5]}}, "fresh seeds: 3 of 6 trials"),
    ],
    ids=["none", "asked for one norm alone", "not all are trained", "trained at another rate"],
)
def test_table_reads_one_kind_of_seeds(folder, fresh: dict, expected: str) -> None:
    """While one ranked norm lacks fresh seeds, all are shown with those of the grid, flagged, and a note says so."""
    folder.add({"batchnorm": GRID, "none": GRID}, fresh=fresh)

    table = folder.table("accuracy")

    assert ({"batchnorm": 0.85, "none": 0.85}, expected) == (reported(table), same_seeds(table))


def test_norm_that_stands_apart_takes_no_fresh_seeds_away(folder) -> None:
    """What is not ranked is in nobody's way."""
    broken = {0.1: ["oom"] * 3, 1.0: ["error"] * 3}
    folder.add({"batchnorm": GRID, "none": broken}, fresh={"batchnorm": FRESH, "none": {1.0: [None] * 3}})

    table = folder.table("accuracy")

    assert ({"batchnorm": 0.55}, None) == (reported(table), same_seeds(table))


@pytest.mark.parametrize("options", [{"protocol": "published"}, {}], ids=["published", "tuned"])
def test_one_rate_has_no_note_of_fresh_seeds(folder, options: dict) -> None:
    """Where nothing is chosen, no choice flatters."""
    folder.add({"batchnorm": {0.1: [0.8, 0.9]}}, **options)

    assert None is same_seeds(folder.table("accuracy"))


def test_fresh_seeds_at_an_earlier_choice(folder) -> None:
    """They are not shown, and never choose: neither for boards, nor among the records behind them."""
    folder.add({"batchnorm": GRID}, fresh={"batchnorm": FRESH})
    changed = {0.1: [None] * 3, 1.0: [None] * 3, 3.0: [0.9, 0.95, 1.0]}
    store = folder.add({"batchnorm": changed}, fresh={"batchnorm": {3.0: [0.1, None, None], 0.1: [1.0, 1.0, 1.0]}})

    table, records = folder.table("accuracy"), shown_trials(store)

    assert ({"batchnorm": 0.95}, "fresh seeds: 1 of 3 trials") == (reported(table), same_seeds(table))
    assert {(1_000_000, 3.0)} == {(one.seed, one.recipe["rate"]) for one in records if one.seed >= 1_000_000}
    assert 10 == len(records)


def test_stability_reads_the_grid(folder, head) -> None:
    """Its figures and its notes are those of the grid's seeds, with fresh ones and without."""
    folder.add({"batchnorm": GRID}, fresh={"batchnorm": {1.0: [0.5, 0.6, 0.55, 0.2]}})
    head.add({"batchnorm": GRID})

    with_fresh, without = folder.table("stability"), head.table("stability")

    assert without.rows == with_fresh.rows
    assert without.notes == with_fresh.notes
    assert any("4 seeds can't see" in note for note in folder.table("accuracy").notes)


def test_failed_fresh_seeds_are_named(folder) -> None:
    """A fresh seed without a score is in no mean, and is counted and flagged; one that did not train has failed."""
    folder.add({"batchnorm": GRID}, fresh={"batchnorm": {1.0: [0.8, "diverged", "oom"]}})

    table = folder.table("accuracy")
    [row] = table.rows

    assert ({"batchnorm": 0.45}, "1/2", None) == (reported(table), row.values["failed"].text, same_seeds(table))
    assert "oom:1" in row.flags
    assert any("'batchnorm': 1 of 9 trials" in note and "1 oom" in note for note in table.notes)


def test_rate_that_was_kept(folder) -> None:
    """A row stands at the rate that its run kept, and a note says which rate its own grid would choose."""
    folder.add({"batchnorm": GRID}, fresh={"batchnorm": {0.1: [0.5, 0.6, 0.55]}}, kept=Kept(rate=0.1))

    table = folder.table("accuracy")

    assert (0.1, {"batchnorm": 0.55}) == (table.rows[0].values["rate"].number, reported(table))
    assert any("'batchnorm'" in note and "would choose rate=1.0" in note for note in table.notes)


@pytest.mark.parametrize("board", ["accuracy", "stability"])
@pytest.mark.parametrize(
    ("grid", "why"),
    [
        ({0.1: [{"outcome": "unsupported", "reason": "no"}], 1.0: [{"outcome": "unsupported"}]}, "unsupported: no"),
        ({0.1: [0.9], 1.0: [None]}, "lacks 1 of 2 trials"),
    ],
    ids=["unsupported", "unfinished"],
)
def test_norm_without_a_whole_seed_whose_rate_is_kept(folder, grid: dict, why: str, board: str) -> None:
    """A rate from elsewhere ranks no norm whose grid has no score here."""
    folder.add({"batchnorm": {0.1: [0.8], 1.0: [0.9]}})
    folder.add({"none": grid}, kept=Kept(rate=0.1))

    table = folder.table(board)

    assert [("none", why)] == table.apart
    assert ["batchnorm"] == [row.norm for row in table.rows]


def test_norm_without_a_score_at_the_rate_that_is_kept(folder) -> None:
    """It stands apart: what it gave at other rates is not shown in its place."""
    folder.add({"batchnorm": {0.1: [0.8], 1.0: [0.9]}})
    folder.add({"none": {0.1: ["oom"], 1.0: [0.9]}}, kept=Kept(rate=0.1), fresh={"none": {0.1: ["oom"]}})

    table = folder.table("accuracy")

    assert ({"batchnorm": 0.9}, [("none", "1 ended in oom")]) == (reported(table), table.apart)


def test_fresh_seeds_of_files_that_were_edited(folder) -> None:
    """Those at an earlier choice are of no interest: no note asks to train them again."""
    files = [Source(at="", path="layer.py", sha256=sha) for sha in ("old", "new")]
    old, new = ({"sources": name} for name in ("old", "new"))
    folder.add(
        {"batchnorm": {0.1: [{"score": 0.9, **old}], 1.0: [{"score": 0.8, **old}]}},
        fresh={"batchnorm": {0.1: [{"score": 0.7, **old}]}},
    )
    folder.add(
        {"batchnorm": {0.1: [{"score": 0.6, **new}], 1.0: [{"score": 0.8, **new}]}},
        fresh={"batchnorm": {1.0: [{"score": 0.5, **new}]}},
    )
    with folder.store.writer() as writer:
        for name, file in zip(("old", "new"), files, strict=True):
            writer.append(SourcesRecord(schema=1, sources=name, files=[file]))

    table = folder.table("accuracy")

    assert ({"batchnorm": 0.5}, None) == (reported(table), same_seeds(table))
    assert not any("other files" in note for note in table.notes)


def test_a_new_board_is_one_entry(folder, monkeypatch) -> None:
    """A board that is added to the list is made from what it needs, in its place, or alone if it is asked for."""
    monkeypatch.setattr(boards, "BOARDS", (*boards.BOARDS, Board("mine", "grids", _rates)))
    for task in ("spirals", "words"):
        folder.add({"batchnorm": {0.1: [0.9], 1.0: [0.8]}}, task=task)

    found = [(table.board, table.task) for table in tables(folder.store, (*boards.NAMES, "mine"))]
    alone = tables(folder.store, ("mine",))

    each = [(name, task) for task in ("spirals", "words") for name in ("accuracy", "stability", "mine")]
    assert [*each, ("aggregate", "spirals v1, words v1")] == found
    assert [("mine", [0.1, 1.0])] * 2 == [(table.board, table.rates) for table in alone]


def _rates(grid: Grid) -> Table:
    """Return a board that has nothing but its head."""
    return Table(board="mine", **grid.head, columns=[], rows=[], apart=[], notes=[])
