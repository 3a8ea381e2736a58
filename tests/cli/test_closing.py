"""What boards on a terminal end with: the files that are there, or the commands that make them."""

import os

import pytest
from folders import folder

__all__ = ["folder"]
RATES = {"batchnorm": {0.1: [0.9, 0.8], 1.0: [0.8, 0.7]}}


@pytest.fixture
def said(folder, normbench):
    """Return a function that gives the last lines of a folder's boards, by their first word."""

    def said(*args: object) -> dict[str, str]:
        ran = normbench("leaderboard", folder.store.folder, *args)
        *_, last = ran.out.rstrip().split("\n\n")
        return {line[:9].strip(): line[9:] for line in last.splitlines()}

    return said


def test_what_is_not_there_is_a_command(folder, said):
    """The report, the picture and the JSON are each a command to copy, whose folder is quoted where it must be."""
    place = folder.add(RATES).folder
    moved = folder.store.folder = place.rename(place.with_name("two words"))

    found = said()

    assert {
        "report": f"normbench report '{moved}'",
        "picture": f"normbench plot '{moved}'",
        "JSON": f"normbench export '{moved}' -o '{moved}.json'",
    } == found


def test_what_is_there_is_a_path(folder, said):
    """A file that is as new as the results is named; one that is older is made anew."""
    place = folder.add(RATES).folder
    names = {"report": "results-report.html", "picture": "results-rates.png", "JSON": "results.json"}
    files = {what: place.with_name(name) for what, name in names.items()}
    for file in files.values():
        file.write_text("")

    there = said()
    for file in files.values():
        os.utime(file, (0, 0))
    old = said()

    assert {what: str(file) for what, file in files.items()} == there
    assert all(command.startswith("normbench ") for command in old.values())


def test_a_picture_of_any_kind_is_there(folder, said):
    """Whatever `plot` drew beside the results is named; a picture of results with a longer name is another's."""
    place = folder.add(RATES).folder
    for name in ("results-curves-rate-0.1.png", "results-against-momentum.png", "results-2-rates.png"):
        place.with_name(name).write_text("")

    found = said()

    assert str(place.with_name("results-against-momentum.png")) == found["picture"]
    assert str(place.with_name("results-curves-rate-0.1.png")) == found[""]


def test_pictures_are_those_of_the_suite(folder, said):
    """Each that is there has a line; where a suite has one rate, the command draws curves."""
    place = folder.add(
        {"batchnorm": {0.1: [0.9, 0.8]}}, suite={"pictures": ["curves", "curve.loss(rate=[0.1])"]}
    ).folder

    before = said()["picture"]
    for name in ("results-curves.png", "results-curve.loss-rate-0.1.png"):
        place.with_name(name).write_text("")
    after = said()

    assert f"normbench plot {place} --curves" == before
    assert str(place.with_name("results-curve.loss-rate-0.1.png")) == after["picture"]
    assert str(place.with_name("results-curves.png")) == after[""]


def test_an_export_is_its_own_json(folder, normbench, said, tmp_path):
    """Of a file there is nothing to export."""
    folder.add(RATES)
    file = tmp_path / "sent.json"
    normbench("export", folder.store.folder, "-o", file)
    folder.store.folder = file

    assert (str(file), f"normbench report {file}") == (said()["JSON"], said()["report"])


def test_programs_get_the_boards_alone(folder, normbench):
    """In any other format nothing follows the tables."""
    folder.add(RATES)

    for form in ("json", "csv", "github", "latex_booktabs"):
        assert "normbench report" not in normbench("leaderboard", folder.store.folder, "--format", form).out
