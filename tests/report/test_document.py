"""What a report shows of a folder: strips of rates, what is in doubt and of what, norms, environments."""

import pytest
from reported import HOSTILE

from normbench.report.document import source


def test_a_strip_says_what_seeds_did(mine):
    """At each rate a mark, how many trained, and whether it is the chosen one."""
    [part] = source(mine).parts
    marks = dict(part.strip)["batchnorm"]

    assert [("●", "all", 3), ("●", "all", 3), ("◐", "some", 2)] == [(one.mark, one.kind, one.trained) for one in marks]
    assert [False, True, False] == [one.chosen for one in marks]
    assert "rate 0.3: 3 of 3 seeds trained; the chosen rate" == marks[1].said


def test_the_strip_has_what_trains_most_first(mine):
    """It is read from above."""
    [part] = source(mine).parts

    assert ["batchnorm", HOSTILE, "none"] == [norm for norm, _ in part.strip]


def test_what_is_in_doubt_is_said_once(folder):
    """With the conditions that it is about, where these are not all."""
    for scale, seeds in ((2.0, [0.9, 0.9]), (4.0, [0.9, None]), (8.0, [0.9, None])):
        folder.add({"none": {0.1: seeds, 1.0: [0.9, 0.9]}}, condition={"init_scale": scale})

    [alert] = source(folder.store.folder).alerts

    stored = [text for text, _ in alert.items if "trials are stored" in text]
    assert 1 == len(stored)
    assert stored[0].startswith("3 of 4 trials are stored")
    assert stored[0].endswith("(spirals (init_scale=4.0); spirals (init_scale=8.0))")


def test_lines_that_cannot_be_read_are_failures(folder):
    """Each with its file, its line and why."""
    folder.add({"none": {0.1: [0.9], 1.0: [0.9]}})
    with (folder.store.folder / "trials.jsonl").open("a", encoding="utf-8") as file:
        file.write("{torn\n")

    failed = [alert for alert in source(folder.store.folder).alerts if alert.kind == "failed"]

    [(text, _)] = failed[0].items
    assert "1 line left out that can't be read." == failed[0].text
    assert text.startswith("trials.jsonl line 3: ")


@pytest.mark.parametrize(("name", "known"), [("batchnorm", "Ioffe & Szegedy 2015"), ("mine", "")])
def test_norms_have_their_papers(folder, name, known):
    """As far as the registry knows them."""
    folder.add({name: {0.1: [0.9]}})

    [norm] = source(folder.store.folder).norms

    assert known in norm.paper
    assert bool(norm.summary) == bool(known)


def test_only_some_tables(folder):
    """Those of a run: its norms, trials and commands alone."""
    folder.add({"none": {0.1: [0.9]}}, task="spirals", command=["normbench", "run", "a"])
    folder.add({"batchnorm": {0.1: [0.9, 0.9]}}, task="circles", command=["normbench", "run", "b"])
    only = frozenset(cell.table_id for cell in folder.store.runs()[1].cells)

    shown = source(folder.store.folder, only)

    assert ["batchnorm"] == [norm.label for norm in shown.norms]
    assert ["circles"] == [part.task for part in shown.parts]
    assert [("normbench run b", "2 trials")] == [(one.command, one.gave) for one in shown.made]
