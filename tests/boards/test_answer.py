"""The answer in sentences: what it says of made-up results, and what it leaves open."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from normbench.boards import tables
from normbench.boards.answer import Answer, answers, caution, in_two_lines

GOOD, CLOSE, FAIR, POOR = [0.91, 0.90, 0.92], [0.90, 0.91, 0.91], [0.70, 0.72, 0.71], [0.2, 0.3, 0.25]
RATES = (0.01, 0.1, 1.0)


def at_rates(*columns: Any) -> dict[float, Any]:
    """Return what the seeds gave at each of RATES."""
    return dict(zip(RATES, columns, strict=True))


def answer(folder) -> Answer:
    """Return the answer of the folder's only task and condition."""
    [only] = answers(tables(folder.store))
    return only


@pytest.mark.parametrize(
    ("norms", "said"),
    [
        (
            {"batchnorm": at_rates(GOOD, GOOD, GOOD), "none": at_rates(POOR, FAIR, POOR)},
            "At each of 3 seeds 'batchnorm' trains up to 1, the highest rate tried; 'none' at 0.1 alone.",
        ),
        (
            {"batchnorm": at_rates(GOOD, FAIR, POOR), "none": at_rates(GOOD, FAIR, [0.7, 0.7, 0.2])},
            "At each of 3 seeds 'none' and 'batchnorm' train up to 0.1.",
        ),
        (
            {"batchnorm": at_rates(GOOD, POOR, POOR), "none": at_rates(POOR, [0.2, 0.7, 0.7], ["diverged"] * 3)},
            "At each of 3 seeds 'batchnorm' trains up to 0.01, the lowest rate tried; 'none' at no rate.",
        ),
        (
            {"batchnorm": at_rates(POOR, POOR, GOOD), "none": at_rates(GOOD, POOR, GOOD)},
            "At each of 3 seeds 'batchnorm' trains at 1 alone, the highest rate tried; 'none' up to 0.01, the lowest "
            "rate tried.",
        ),
        ({"batchnorm": at_rates(POOR, POOR, POOR)}, "At each of 3 seeds 'batchnorm' trains at no rate."),
        ({"batchnorm": at_rates([0.9], [0.9], [0.2])}, "At the one seed 'batchnorm' trains up to 0.1."),
        ({"batchnorm": at_rates([0.9] * 2, [0.9, 0.2], [0.9] * 2)}, "At both seeds 'batchnorm' trains up to 0.01"),
    ],
)
def test_rates_at_which_every_seed_trains(folder, norms: dict, said: str) -> None:
    """Without a gap, from the lowest rate that trains at every seed; where the grid ends there, that is said."""
    folder.add(norms)

    assert answer(folder).sentences[0].startswith(said)


@pytest.mark.parametrize(
    ("count", "between"),
    [
        (2, "'b-0' and 'b-1' up to 0.01, the lowest rate tried; 'none' at no rate"),
        (3, "'none' at no rate; the others lie between"),
    ],
)
def test_many_norms_by_the_furthest_the_baseline_and_the_least(folder, count: int, between: str) -> None:
    """Where three norms or more lie between, a sentence names the ends and the baseline; many norms by their number."""
    norms = {f"far-{i}": at_rates(GOOD, GOOD, GOOD) for i in range(4)}
    norms |= {"batchnorm": at_rates(GOOD, GOOD, POOR)}
    norms |= {f"b-{i}": at_rates(GOOD, POOR, POOR) for i in range(count)}
    norms |= {"none": at_rates(*[POOR] * 3)}

    folder.add(norms)

    assert answer(folder).sentences[0] == (
        f"At each of 3 seeds 4 norms train up to 1, the highest rate tried; 'batchnorm' up to 0.1; {between}."
    )


@pytest.mark.parametrize(
    ("norms", "said"),
    [
        ({"batchnorm": GOOD, "none": FAIR}, "'batchnorm' is surely the most accurate."),
        ({"batchnorm": GOOD, "none": CLOSE}, "No norm is surely the most accurate: either may be."),
        (
            {"batchnorm": GOOD, "a": CLOSE, "b": CLOSE, "none": FAIR},
            "No norm is surely the most accurate: 'batchnorm', 'a' and 'b' may be.",
        ),
        (
            {**dict.fromkeys(["batchnorm", "a", "b", "c"], GOOD), "none": FAIR},
            "No norm is surely the most accurate: any but 'none' may be.",
        ),
        (
            {**dict.fromkeys(["batchnorm", "a", "b", "c", "d"], GOOD)},
            "No norm is surely the most accurate: any of the 5 may be.",
        ),
        (
            {"batchnorm": [0.9, 0.91], "none": [0.89, 0.91]},
            "With two seeds, which tell few norms apart, no norm is surely the most accurate: either may be.",
        ),
        (
            {"batchnorm": [0.9], "none": [0.6]},
            "One seed says nothing of which norm is the most accurate; first here is 'batchnorm', 90.0%.",
        ),
        ({"batchnorm": [0.9, 0.91], "none": [0.2, 0.21001]}, "By two seeds 'batchnorm' is surely the most accurate."),
        ({"batchnorm": GOOD}, "There is one norm: 'batchnorm', 91.0%"),
    ],
)
def test_a_norm_is_the_best_only_where_no_other_may_be(folder, norms: dict, said: str) -> None:
    """By the intervals of ranks: few seeds, and norms that lie close to each other, leave it open."""
    folder.add({norm: {0.1: scores} for norm, scores in norms.items()})

    assert answer(folder).sentences[0].startswith(said)


def test_a_score_that_is_no_accuracy_has_a_best(folder, bits) -> None:
    """Where less is better, the best norm has the lowest score."""
    folder.add({"batchnorm": {0.1: [2.1, 2.2, 2.0]}, "none": {0.1: [2.9, 2.8, 2.7]}}, measure=bits)

    assert answer(folder).sentences[0] == "'batchnorm' is surely the best."


def test_what_failed_is_said(folder) -> None:
    """Seeds that fail at the chosen rate, norms that are not ranked, and what is missing or has no score."""
    folder.add(
        {
            "batchnorm": at_rates(POOR, GOOD, POOR),
            "none": at_rates(POOR, [0.7, 0.2, 0.7], POOR),
            "group-norm": at_rates(POOR, GOOD, [0.3, "oom", 0.3]),
            "layer-norm": at_rates(*[["error"] * 3] * 3),
            "half": at_rates(GOOD, GOOD, [None] * 3),
        }
    )

    found = answer(folder)

    assert "Seeds failed even at the norm's own rate: 'none' 1 of 3." in found.sentences[1]
    assert "Not ranked: 'layer-norm' and 'half'." in found.sentences[1]
    assert ["42 of 45 trials", "'group-norm': 1 of 9 trials have no score"] == [
        re.match("[^;(]*?(?:trials|score)(?= (?:are|\\())", warning)[0] for warning in found.warnings[:2]
    ]


def test_what_flatters_and_what_is_mixed_is_in_doubt(folder) -> None:
    """Seeds that chose the rates are no fresh ones, and trials of other environments are others: a line of its own."""
    norms = {"batchnorm": at_rates(GOOD, GOOD, [{"score": 0.9, "environment": "another"}] * 3)}
    folder.add(norms)

    found = answer(folder)

    assert ["mixed", "same-seeds"] == [warning.partition(":")[0] for warning in found.warnings]
    assert [True] == [bool(re.fullmatch(r"Caution: mixed: .* \(and 1 more\)\.", line)) for line in caution([found])]


def test_fresh_seeds_leave_no_doubt(folder) -> None:
    """Where all is there, nothing is added to two lines."""
    fresh = {"batchnorm": {0.1: GOOD}, "none": {0.1: FAIR}}
    folder.add({"batchnorm": at_rates(POOR, GOOD, POOR), "none": at_rates(POOR, FAIR, POOR)}, fresh=fresh)

    assert [] == caution([answer(folder)])
    assert in_two_lines([answer(folder)]) == [
        "At each of 3 seeds 'batchnorm' and 'none' train at 0.1 alone.",
        "'batchnorm' is surely the most accurate.",
    ]


@pytest.mark.parametrize(
    ("speeds", "said"),
    [
        (
            {"none": 1.5, "slow": 0.5, "slower": 0.25},
            "Training steps with 'none' are surely faster than with 'batchnorm' (1.50 times as fast), with 'slow' and "
            "'slower' surely slower (0.25 to 0.50 times).",
        ),
        ({"slow": 0.5}, "Training steps with 'slow' are surely slower than with 'batchnorm' (0.50 times as fast)."),
        ({"none": 1.01, "slow": 0.99}, "No norm's training step is surely faster or slower than with 'batchnorm'."),
    ],
)
def test_speed_where_it_surely_differs(folder, speeds: dict[str, float], said: str) -> None:
    """By the ratio's interval, and beyond what changes from one session to the next."""
    folder.time("spirals", **speeds)

    assert [said] == answer(folder).sentences


def test_a_machine_that_was_not_steady_says_nothing_of_speed(folder) -> None:
    """Where the baseline was not as fast as itself there is a warning in place of a speed."""
    folder.time("spirals", none=1.5)
    [table] = tables(folder.store)
    rows = [replace(row, flags=[*row.flags, "a-a"]) for row in table.rows]

    assert [] == Answer({"throughput": replace(table, rows=rows)}).sentences


def test_several_conditions_in_two_lines(folder) -> None:
    """In how many a norm goes as far as any, in how many one is surely the best, and what failed anywhere."""
    for momentum in (0.5, 0.9):
        folder.add(
            {
                "batchnorm": at_rates(GOOD, GOOD, GOOD),
                "none": at_rates(POOR, FAIR if momentum == 0.5 else POOR, POOR),
                "same": at_rates(GOOD, GOOD, GOOD if momentum == 0.5 else POOR),
            },
            condition={"momentum": momentum},
        )
    given = answers(tables(folder.store))

    assert 2 == len(given)
    assert in_two_lines(given) == [
        "Trains at every seed up to as high a rate as any norm: 'batchnorm' in 2 of 2 conditions; 'same' in 1; 'none' "
        "in 0.",
        "No norm is surely the most accurate in either of 2 conditions; in both 'batchnorm' and 'same' may be. "
        "Seeds failed even at the norm's own rate: 'none'.",
    ]


def test_several_tasks_of_one_rate(folder) -> None:
    """Without a grid the first line is of the only rate; the second says where a norm is surely the best."""
    for task, scores in {"spirals": FAIR, "circles": CLOSE, "moons": POOR}.items():
        folder.add({"batchnorm": {0.1: GOOD}, "none": {0.1: scores}}, task=task)

    assert in_two_lines(answers(tables(folder.store))) == [
        "Trains at every seed at its own rate: 'batchnorm' in 3 of 3 tasks; 'none' in 2.",
        "Surely the most accurate: 'batchnorm' in 2 of 3 tasks; in the other no norm is. "
        "Seeds failed even at the norm's own rate: 'none'.",
    ]


def test_nothing_to_say(folder) -> None:
    """Without boards there are no lines; a session of the baseline alone has none, either."""
    folder.time("spirals")

    assert [] == in_two_lines(answers([]))
    assert [] == in_two_lines(answers(tables(folder.store)))
