"""Plans: from a suite to cells and trials, pure and without torch."""

import random
import subprocess
import sys
from fractions import Fraction

import msgspec
import pytest

from normbench import plan, suites
from normbench.contract import Norm, Recipe, Task
from normbench.errors import UsageError
from normbench.registry import Offered, Plugin, Registry
from normbench.store.records import Result
from normbench.trials import Cell, Kept, Measure

RECIPE = Recipe(rate=0.2, batch_size=64, epochs=6, momentum=0.9)


@pytest.fixture
def registry():
    """Return a registry of three norms and three tasks."""
    plugin = Plugin("toys", "toys")
    anchors = {"chance": 0.1, "reference": 0.9, "data": "toys:data", "network": "toys:network"}
    stepped = Recipe(rate=0.1, batch_size=8, steps=100, optimizer="adam")
    tasks = [
        Task("toy", 3, summary="Toy", recipe=RECIPE, params={"width": 16, "depth": 2}, **anchors),
        Task("other", 1, summary="Other", recipe=Recipe(rate=1, batch_size=8, epochs=2), **anchors),
        Task("stepped", 1, summary="Stepped", recipe=stepped, **anchors),
    ]
    norms = [
        Norm("none", "toys:none", summary="None"),
        Norm("batchnorm", "toys:batchnorm", summary="Batch norm", params={"eps": 1e-5, "momentum": 0.1}),
        Norm("group-norm", "toys:group_norm", summary="Group norm", params={"groups": 8}),
    ]
    return Registry(
        norms={norm.name: Offered(norm, plugin) for norm in norms},
        tasks={task.name: Offered(task, plugin) for task in tasks},
    )


@pytest.fixture
def cells(registry):
    """Return a function that plans a suite, valid but for what it is given; None leaves a key out."""

    def make(fresh=True, **changes):
        table = {
            "name": "mine",
            "summary": "Mine",
            "tasks": ["toy"],
            "norms": ["batchnorm"],
            "rates": [0.1, 1],
            "seeds": 2,
        }
        given = {key: value for key, value in (table | changes).items() if value is not None}
        return plan.cells(suites.from_table(given, "suite mine"), registry, "suite mine", fresh=fresh)

    return make


def test_cells_and_trials(cells):
    """A suite gives a cell for each task, condition and norm, and its trials are rates x settings x seeds."""
    planned = cells(
        tasks=["toy", "other"],
        norms=["none", "batchnorm"],
        vary={"batch_size": [8, 64, 128], "epochs": [1, 2]},
        tune={"weight_decay": [0, 5e-4], "momentum": [0.0, 0.5]},
        seeds=3,
    )

    assert 2 * 6 * 2 == len(planned)
    assert {2 * 4 * 3} == {len(list(cell.trials())) for cell in planned}
    assert 24 * 24 == len({trial.key for cell in planned for trial in cell.trials()})
    assert 12 == len({cell.table_id for cell in planned})


def test_tables_stay_together(cells):
    """The norms of one table follow one another, in the suite's order."""
    planned = cells(norms=["none", "batchnorm"], vary={"batch_size": [8, 128]})

    assert [("none", 8), ("batchnorm", 8), ("none", 128), ("batchnorm", 128)] == [
        (cell.norm, cell.recipe.batch_size) for cell in planned
    ]


def test_seeds_come_one_after_another(cells):
    """Every rate and setting of a seed comes before the next seed."""
    [cell] = cells(tune={"weight_decay": [0, 0.1]}, seeds=[4, 2])

    points = [(trial.seed, trial.recipe.weight_decay, trial.recipe.rate) for trial in cell.trials()]

    assert [(s, w, r) for s in (4, 2) for w in (0.0, 0.1) for r in (0.1, 1.0)] == points


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [{}]),
        ({"fix": {"epochs": 3}}, [{"epochs": 3}]),
        ({"fix": {"epochs": 6, "weight_decay": 0}}, [{}]),
        ({"vary": {"batch_size": [64, 8]}}, [{}, {"batch_size": 8}]),
        ({"fix": {"momentum": 0}, "vary": {"epochs": [6, 1]}}, [{"momentum": 0.0}, {"epochs": 1, "momentum": 0.0}]),
        ({"tune": {"momentum": [0.0, 0.9]}}, [{}]),
        ({"protocol": "published", "rates": None}, [{}]),
    ],
    ids=str,
)
def test_condition_is_what_differs(cells, changes, expected):
    """A condition holds the recipe values that differ from the task's own, whoever set them, but not what is tuned."""
    planned = cells(**changes)

    assert expected == [cell.condition for cell in planned]


@pytest.mark.parametrize(
    ("task", "changes", "expected"),
    [
        ("toy", {"fix": {"steps": 50}}, [{"steps": 50}]),
        ("toy", {"vary": {"steps": [50, 100]}}, [{"steps": 50}, {"steps": 100}]),
        ("toy", {"tune": {"steps": [50, 100]}}, [{}]),
        ("stepped", {"fix": {"epochs": 3}}, [{"epochs": 3}]),
        ("stepped", {"vary": {"epochs": [3, 4]}}, [{"epochs": 3}, {"epochs": 4}]),
        ("stepped", {"fix": {"steps": 100}}, [{}]),
        ("stepped", {"fix": {"optimizer": "sgd"}}, [{"optimizer": "sgd"}]),
        ("toy", {"fix": {"milestones": [0.25], "schedule": "steps"}}, [{"milestones": [0.25], "schedule": "steps"}]),
    ],
    ids=str,
)
def test_condition_names_epochs_or_steps(cells, task, changes, expected):
    """Of epochs and steps a condition names the one that counts, if it is not the task's own."""
    planned = cells(tasks=[task], **changes)

    assert expected == [cell.condition for cell in planned]


def test_tuned_steps_replace_epochs(cells):
    """A task that counts epochs can be tuned over steps, and one that counts steps over epochs."""
    [epochs], [steps] = cells(tasks=["stepped"], tune={"epochs": [3]}), cells(tune={"steps": [50]})

    assert {(3, 0)} == {(trial.recipe.epochs, trial.recipe.steps) for trial in epochs.trials()}
    assert {(0, 50)} == {(trial.recipe.epochs, trial.recipe.steps) for trial in steps.trials()}


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([1, 0.1, 10], {"toy": [0.1, 1.0, 10.0], "other": [0.1, 1.0, 10.0]}),
        ({"relative": [2, 0.5]}, {"toy": [0.1, 0.4], "other": [0.5, 2.0]}),
        ({"toy": [3], "other": {"relative": [1, 10]}}, {"toy": [3.0], "other": [1.0, 10.0]}),
    ],
    ids=str,
)
def test_grids(cells, rates, expected):
    """Rates come in ascending order; relative ones are multiples of the task's own, and a task may have its grid."""
    planned = cells(tasks=["toy", "other"], rates=rates)

    assert expected == {cell.task: cell.rates for cell in planned}
    assert {float} == {type(rate) for cell in planned for rate in cell.rates}


def test_published_protocol(cells):
    """A published suite has the task's own rate alone, and trains on all its training data."""
    [cell] = cells(protocol="published", rates=None, tasks=["other"])

    assert ([1.0], [{}], False) == (cell.rates, cell.settings, cell.recipe.hold_out)
    assert cell.table_id != cells(tasks=["other"])[0].table_id


def test_parameters(cells):
    """Parameters of norms and tasks are kept as given, checked, with defaults left out; labels name rows."""
    planned = cells(
        tasks=["toy(depth=3)"],
        norms=["batchnorm(eps=1)", {"norm": "group-norm", "groups": 4, "label": "gn"}, "batchnorm"],
    )

    assert [{"eps": 1.0}, {"groups": 4}, {}] == [cell.params for cell in planned]
    assert ["batchnorm(eps=1.0)", "gn", "batchnorm"] == [cell.label for cell in planned]
    assert [{"depth": 3}] * 3 == [cell.task_params for cell in planned]
    assert {3} == {cell.task_version for cell in planned}


def test_same_value_same_trial(cells):
    """A trial is the same however its values are spelled: as a whole number or not, given or left to the default."""
    plain = cells(rates=[1])
    spelled = [
        cells(rates=[1.0], fix={"weight_decay": 0}),
        cells(rates=[1.0], fix={"weight_decay": 0.0, "threads": 1}),
        cells(rates=[1], tune={"weight_decay": [0]}),
        cells(rates=[1], tune={"weight_decay": [0.0]}),
        cells(rates={"relative": [5]}, vary={"momentum": [0.9]}),
    ]

    keys = [[trial.key for trial in planned[0].trials()] for planned in [plain, *spelled]]

    assert [keys[0]] * 6 == keys


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tune": {"weight_decay": [0, 1]}},
        {"protocol": "published", "rates": None},
        {"fix": {"schedule": "steps"}, "vary": {"milestones": [[0.5], [0.25, 0.5]]}, "tune": {"steps": [5, 50]}},
    ],
    ids=str,
)
def test_stored_plan_finds_its_trials(cells, changes):
    """A cell read back from a run's line names the same trials as when it was planned: boards find them."""
    planned = cells(tasks=["other", "toy"], **changes)

    stored = msgspec.json.decode(msgspec.json.encode(planned), type=list[Cell])

    assert [trial.key for cell in planned for trial in cell.trials()] == [
        trial.key for cell in stored for trial in cell.trials()
    ]
    assert [(cell.table_id, cell.norm_id) for cell in planned] == [(cell.table_id, cell.norm_id) for cell in stored]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"norms": ["bacthnorm"]}, "suite mine: norms: no norm 'bacthnorm'; did you mean 'batchnorm'?"),
        ({"tasks": ["toyy"]}, "suite mine: tasks: no task 'toyy'; did you mean 'toy'?"),
        ({"norms": ["batchnorm(esp=1)"]}, "suite mine: norms: batchnorm: no parameter 'esp'; did you mean 'eps'?"),
        ({"norms": ["group-norm(groups=4.0)"]}, "norms: group-norm: groups is 4.0; it takes an int"),
        ({"tasks": ["toy(widht=8)"]}, "suite mine: tasks: toy: no parameter 'widht'; did you mean 'width'?"),
        ({"tasks": ["toy(width=true)"]}, "tasks: toy: width is True; it takes an int"),
        (
            {"norms": ["none", "batchnorm", "none"]},
            "norms names 'none' twice; leave one out, or label one",
        ),
        (
            {"norms": [{"norm": "group-norm", "label": "batchnorm"}, "batchnorm"]},
            "norms names 'batchnorm' twice; leave one out, or label one",
        ),
        (
            {"norms": ["batchnorm", {"norm": "batchnorm", "label": "again"}]},
            "norms has 'batchnorm' and 'again', which are the same norm; leave one out",
        ),
        ({"tasks": ["toy", "toy()"]}, "suite mine: tasks names 'toy' twice"),
        ({"fix": {"epochs": 0}}, "suite mine: toy: epochs is 0 and steps is 0; one of the two says how long to train"),
        ({"fix": {"threads": 0}}, "suite mine: toy: threads is 0; it is 1 or more"),
        (
            {"tasks": ["stepped"], "vary": {"momentum": [0, 0.9]}},
            "suite mine: momentum has no effect where optimizer is adam",
        ),
        ({"fix": {"epochs": 1.5}}, "suite mine: toy: epochs: expected int, got float"),
        ({"vary": {"batch_size": [8, "many"]}}, "suite mine: toy: batch_size: expected int, got str"),
        ({"vary": {"momentum": [0.5, 1]}}, "suite mine: toy: momentum is 1.0; it is at least 0 and below 1"),
        ({"tune": {"weight_decay": [0, -1]}}, "suite mine: [tune]: weight_decay is -1.0; it is 0 or more"),
        ({"rates": {"toyy": [1]}}, "suite mine: rates: no task 'toyy'; did you mean 'toy'?"),
        ({"rates": [1, 0.1, 1.0]}, "suite mine: rates names a rate twice"),
    ],
    ids=str,
)
def test_plan_that_is_refused(cells, changes, words):
    """What a suite asks for and can't be is refused, naming the suite, the key and what would be right."""
    with pytest.raises(UsageError) as refused:
        cells(**changes)

    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("asked", "expected"), [("batchnorm", "batchnorm"), ("group-norm(groups=4)", "group-norm(groups=4)")]
)
def test_baseline_is_a_norm(registry, asked, expected):
    """The baseline is named as boards name it, and need not be among the suite's norms."""
    table = {"name": "mine", "summary": "Mine", "tasks": ["toy"], "norms": ["none"], "rates": [1], "baseline": asked}
    suite = suites.from_table(table, "suite mine")

    found = plan.baseline(suite, registry, "suite mine")

    assert expected == found
    assert ["none"] == [cell.norm for cell in plan.cells(suite, registry, "suite mine")]


def test_baseline_with_a_label(registry):
    """A baseline that stands among the norms under a label is named by that label, so that boards find its row."""
    norms = ["none", {"norm": "batchnorm", "eps": 1e-3, "label": "bn"}]
    table = {"name": "mine", "summary": "Mine", "tasks": ["toy"], "norms": norms, "rates": [1]}
    suite = suites.from_table(table | {"baseline": "batchnorm(eps=1e-3)"}, "suite mine")

    found = plan.baseline(suite, registry, "suite mine")

    assert "bn" == found


def test_baseline_that_is_no_norm(registry):
    """A baseline that is no norm is refused with the nearest name."""
    table = {
        "name": "mine",
        "summary": "Mine",
        "tasks": ["toy"],
        "norms": ["none"],
        "rates": [1],
        "baseline": "batch-norm",
    }
    suite = suites.from_table(table, "suite mine")

    with pytest.raises(UsageError, match="suite mine: baseline: no norm 'batch-norm'; did you mean 'batchnorm'"):
        plan.baseline(suite, registry, "suite mine")


def test_planning_imports_no_torch():
    """A plan is made without torch: `normbench plan` answers at once."""
    code = """
import sys
from normbench import plan, plugins, suites
registry = plugins.load()
print(len(plan.cells(suites.read(registry.suite("quick")), registry, "suite quick")), "torch" in sys.modules)
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    count, torch = done.stdout.split()
    assert int(count) > 0
    assert "False" == torch


def test_a_value_that_has_an_effect_on_some_trials_stands(cells):
    """Momentum counts for the trials with sgd: that those with adam have none is no mistake."""
    planned = cells(vary={"optimizer": ["sgd", "adam"]}, tune={"momentum": [0.0, 0.5]})

    assert ["sgd", "adam"] == [cell.recipe.optimizer for cell in planned]


UP = Measure(name="accuracy", unit="%", direction="up", chance=0.1, reference=0.9)
DOWN = Measure(name="entropy", unit="bits", direction="down", chance=4.0, reference=2.0)


@pytest.fixture
def gave():
    """Return a function that makes a result: of a validation score, or of an outcome without one."""

    def made(score, measure=UP, **fields):
        scored = {"outcome": score} if isinstance(score, str) else {"outcome": "trained", "score": 0.5}
        scored |= {} if isinstance(score, str) else {"validation": score}
        head = {"schema": 1, "key": "key", "run": "run", "device": "cpu", "environment": "e", "measure": measure}
        return Result(**{**head, **scored, **fields})

    return made


def chosen_of(gave, grid, measure=UP):
    """Return the rate that is chosen of a grid {rate: [what each seed gave]}, with one setting."""
    results = {
        (seed, 0, rate): gave(given, measure)
        for rate, seeds in grid.items()
        for seed, given in enumerate(seeds)
        if given is not None
    }
    seeds = range(max(map(len, grid.values())))
    found = plan.choose(results, rates=list(grid), settings=1, seeds=seeds, measure=measure)
    return found and found[1]


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        ({0.1: [0.5, 0.6], 1.0: [0.7, 0.6], 3.0: [0.2, 0.9]}, 1.0),
        ({0.1: [0.5, 0.6], 1.0: [0.6, 0.5]}, 0.1),
        ({0.1: [0.1, 0.2, 0.3], 1.0: [0.3, 0.1, 0.2]}, 0.1),
        ({0.1: [0.5, 0.5], 1.0: [0.9, "oom"]}, 0.1),
        ({0.1: [0.5, "timeout"], 1.0: [0.2, 0.2], 3.0: ["error", 0.9]}, 1.0),
        ({0.1: [0.5, "timeout"], 1.0: [0.9, "oom"]}, 1.0),
        ({0.1: ["error", "oom"], 1.0: [0.1, "timeout"]}, 1.0),
        ({0.1: ["error", "oom"], 1.0: ["unsupported", None]}, None),
        ({0.1: [0.5, 0.5], 1.0: [0.9, None]}, 0.1),
    ],
    ids=str,
)
def test_rate_that_is_chosen(gave, grid, expected):
    """The best mean on validation; ties to the lower rate, rounding included; survivors only where no rate is whole."""
    assert expected == chosen_of(gave, grid)


def test_rate_that_is_chosen_where_less_is_better(gave):
    """Of a task whose scores are better when lower, the lowest mean is chosen."""
    assert 1.0 == chosen_of(gave, {0.1: [2.5, 2.5], 1.0: [2.0, 2.1], 3.0: ["oom", 1.0]}, DOWN)


def test_tie_of_settings(gave):
    """Where a rate is as good with two settings, the earlier is chosen, and a lower rate before both."""
    results = {(0, setting, rate): gave(0.5) for setting in (0, 1) for rate in (0.1, 1.0)}
    better = {**results, (0, 1, 1.0): gave(0.6), (0, 0, 1.0): gave(0.6)}

    found = [plan.choose(one, rates=[0.1, 1.0], settings=2, seeds=[0], measure=UP) for one in (results, better)]

    assert [(0, 0.1), (0, 1.0)] == found


def test_choice_is_that_of_a_search_by_hand(gave):
    """Whatever the results, the choice is the first of all points by: whole, then the mean, then low, then early."""
    draw = random.Random(5)
    for _ in range(300):
        seeds, settings, rates = range(draw.randint(1, 3)), draw.randint(1, 2), sorted(draw.sample([0.1, 0.3, 1, 3], 3))
        given = {
            (seed, setting, rate): draw.choice([None, "oom", "error", *(Fraction(i, 8) for i in range(3))])
            for seed in seeds
            for setting in range(settings)
            for rate in rates
        }
        results = {
            at: gave(one if isinstance(one, str) else float(one)) for at, one in given.items() if one is not None
        }

        def key(point, given=given, seeds=seeds):
            scores = [one for seed in seeds if isinstance(one := given[seed, *point[::-1]], Fraction)]
            return len(scores) < len(seeds), -sum(scores) / len(scores) if scores else 9, *point

        points = [(rate, setting) for rate in rates for setting in range(settings)]
        has_score = [point for point in points if key(point)[1] < 9]
        expected = min(has_score, key=key)[::-1] if has_score else None

        assert expected == plan.choose(results, rates=rates, settings=settings, seeds=seeds, measure=UP)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [1_000_000, 1_000_001]),
        ({"seeds": [7, 3]}, [1_000_007, 1_000_003]),
        ({"rates": [0.1]}, []),
        ({"rates": [0.1], "tune": {"momentum": [0.0, 0.9]}}, [1_000_000, 1_000_001]),
        ({"protocol": "published", "rates": None}, []),
    ],
    ids=str,
)
def test_fresh_seeds_of_a_suite(cells, changes, expected):
    """One for each seed, where there is a choice; the grid is the same with them and without."""
    norms = ["none", "batchnorm"]
    planned = cells(norms=norms, **changes)

    assert [expected] * 2 == [cell.fresh for cell in planned]
    without = [msgspec.structs.replace(cell, fresh=[]) for cell in planned]
    assert [list(cell.trials()) for cell in planned] == [list(cell.trials()) for cell in without]
    assert cells(norms=norms, fresh=False, **changes) == without


def test_cell_without_fresh_seeds_is_written_as_before(cells):
    """A line without them has neither `fresh` nor `kept`: what was written before reads, and writes, the same."""
    [cell] = cells(fresh=False)

    line = msgspec.json.encode(cell)

    assert {"fresh", "kept"}.isdisjoint(msgspec.json.decode(line))
    assert line == msgspec.json.encode(msgspec.json.decode(line, type=Cell))


def staged(cells, given, draw=None, others=None):
    """Train what is wanted until nothing is, each trial giving what `given` says; return all that was, by stage."""
    results, trained = {}, []
    while wanted := list(plan.wanted(cells, results, others or {})):
        if draw is not None:  # an executor gives outcomes in any order, and may be interrupted
            draw.shuffle(wanted)
            wanted = wanted[: draw.randint(1, len(wanted))]
        for _, trial, stage in wanted:
            assert trial.key not in results
            results[trial.key] = given(trial)
            trained.append((stage, trial.norm, trial.seed, trial.recipe.momentum, trial.recipe.rate))
        assert len(trained) < 1000
    return trained


def test_stages_end_and_do_not_depend_on_the_order(cells, gave):
    """Asked until it gives nothing, `wanted` gives each trial once, and the same in whatever order results come."""
    draw = random.Random(3)
    planned = cells(norms=["none", "batchnorm"], rates=[0.1, 0.3, 1], seeds=3, tune={"momentum": [0.0, 0.9]})
    for _ in range(40):
        made = {}

        def given(trial, made=made):
            return made.setdefault(trial.key, gave(draw.choice(["oom", "error", 0.1, 0.2, 0.3])))

        whole = staged(planned, given)
        interrupted = staged(planned, given, draw)

        assert sorted(whole) == sorted(interrupted)
        assert 36 == sum(stage == "grid" for stage, *_ in whole)
        for norm in ("none", "batchnorm"):
            fresh = [(seed, *at) for stage, name, seed, *at in whole if (stage, name) == ("fresh", norm)]
            assert [1_000_000, 1_000_001, 1_000_002] == [seed for seed, *_ in fresh]
            assert 1 == len({tuple(at) for _, *at in fresh})


def test_norm_without_a_score_has_no_fresh_seeds(cells, gave):
    """Where nothing in the grid has a score there is no rate; the other norms have theirs all the same."""
    planned = cells(norms=["none", "batchnorm"], rates=[0.1, 1], seeds=2)

    trained = staged(planned, lambda trial: gave("unsupported" if trial.norm == "none" else 0.5))

    assert ["batchnorm"] * 2 == [norm for stage, norm, *_ in trained if stage == "fresh"]


def test_rate_that_is_kept(cells, gave):
    """Fresh seeds stand at what is kept, whatever the grid chooses, and even where the grid lacks it."""
    [cell] = cells(rates=[0.1, 1], seeds=2)
    kept = [msgspec.structs.replace(cell, kept=Kept(rate=rate)) for rate in (0.1, 3.0)]

    found = [staged([one], lambda trial: gave(trial.recipe.rate / 10)) for one in [cell, *kept]]

    assert [{1.0}, {0.1}, {3.0}] == [{rate for stage, *_, rate in one if stage == "fresh"} for one in found]


def test_seeds_of_earlier_runs_choose_where_they_are_whole(cells, gave):
    """What the boards of a folder show is what is trained: further seeds count once all their rates are there."""
    [both] = cells(rates=[0.1, 1], seeds=2)
    [one] = cells(rates=[0.1, 1], seeds=1)
    scores = {(0, 0.1): 0.5, (0, 1.0): 0.4, (1, 0.1): 0.1, (1, 1.0): 0.9}
    results = {trial.key: gave(scores[trial.seed, trial.recipe.rate]) for trial in both.trials()}
    part = dict(list(results.items())[:3])

    found = [plan.kept_of(one, *asked).rate for asked in [(results,), (results, {1}), (part, {1})]]

    assert [0.1, 1.0, 0.1] == found
    assert None is plan.kept_of(both, part)
