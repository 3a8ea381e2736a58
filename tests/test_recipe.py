"""Recipes: which values can be, how each is spelled, and that a suite may fix, vary, tune and set every one."""

import hashlib
import json

import msgspec
import pytest

from normbench import plan, suites
from normbench.contract import Norm, Recipe, Task
from normbench.errors import UsageError
from normbench.recipe import CHOICES
from normbench.registry import Offered, Plugin, Registry
from normbench.suites import RECIPE_VALUES
from normbench.trials import Trial

RECIPE = {"rate": 0.1, "batch_size": 64, "epochs": 6}

#: Of every recipe value that a suite may set: two values, neither the toy task's own, and what they need to matter.
VALUES = {
    "batch_size": ([8, 16], {}),
    "epochs": ([1, 2], {}),
    "steps": ([10, 20], {}),
    "momentum": ([0.0, 0.5], {}),
    "optimizer": (["adam", "adamw"], {}),
    "schedule": (["cosine", "one-cycle"], {}),
    "milestones": ([[0.5], [0.25, 0.5]], {"schedule": "steps"}),
    "milestone_factor": ([0.2, 0.5], {"schedule": "steps"}),
    "weight_decay": ([5e-4, 1e-3], {}),
    "weight_decay_spares": (["norms-and-biases"], {"weight_decay": 5e-4}),
    "init": (["he", "xavier"], {}),
    "init_scale": ([0.5, 2.0], {}),
    "dropout": ([0.1, 0.5], {}),
    "precision": (["bf16"], {}),
    "channels_last": ([True], {}),
    "compile": ([True], {}),
    "threads": ([2, 4], {}),
    "devices": ([2, 4], {}),
    "num_nodes": ([2, 4], {}),
    "strategy": (["ddp_find_unused_parameters_true"], {"devices": 2}),
    "accumulate": ([2, 4], {}),
    "sync_ranks": ([1, 2], {"devices": 4}),
    "eval_batch": ([2, 64], {}),
    "recalibrate": ([1, 50], {}),
    "validate_every": ([1, 50], {}),
}


@pytest.fixture
def cells():
    """Return a function that plans a suite of one norm on a toy task, whose recipe is RECIPE with momentum."""
    plugin = Plugin("toys", "toys")
    recipe = Recipe(**RECIPE, momentum=0.9)
    task = Task(
        "toy", 1, summary="Toy", recipe=recipe, chance=0.1, reference=0.9, data="toys:data", network="toys:network"
    )
    norm = Norm("batchnorm", "toys:batchnorm", summary="Batch norm")
    registry = Registry(norms={norm.name: Offered(norm, plugin)}, tasks={task.name: Offered(task, plugin)})

    def make(settings=None, **tables):
        table = {"name": "mine", "summary": "Mine", "tasks": ["toy"], "norms": ["batchnorm"], "rates": [0.1, 1]}
        suite = suites.changed(suites.from_table({**table, **tables}, "suite mine"), settings=settings or {})
        return plan.cells(suite, registry, "suite mine")

    return make


OUT_OF_RANGE = [
    ({"rate": 0.0}, "rate is 0.0; a rate is above 0"),
    ({"rate": -1.0}, "rate is -1.0"),
    ({"rate": float("inf")}, "rate is inf"),
    ({"rate": float("nan")}, "rate is nan"),
    ({"batch_size": 0}, "batch_size is 0; it is 1 or more"),
    ({"epochs": -1}, "epochs is -1; it is 1 or more, or 0 where steps count"),
    ({"steps": -1}, "steps is -1; it is 1 or more, or 0 where epochs count"),
    ({"epochs": 0}, "epochs is 0 and steps is 0; one of the two says how long to train"),
    ({"steps": 5}, "epochs is 6 and steps is 5; one of the two says how long to train"),
    ({"threads": 0}, "threads is 0; it is 1 or more"),
    ({"devices": 0}, "devices is 0; it is 1 or more"),
    ({"num_nodes": 0}, "num_nodes is 0; it is 1 or more"),
    ({"accumulate": 0}, "accumulate is 0; it is 1 or more"),
    ({"eval_batch": 1}, "eval_batch is 1; it is 2 or more"),
    ({"recalibrate": -1}, "recalibrate is -1; it is a number of training batches, or 0 for none"),
    ({"validate_every": -1}, "validate_every is -1; it is a number of steps, or 0 for after each epoch"),
    ({"sync_ranks": -1}, "sync_ranks is -1; it is 1 or more, or 0 for all ranks"),
    ({"devices": 4, "sync_ranks": 3}, "sync_ranks is 3, which does not divide the 4 ranks"),
    ({"devices": 3}, "batch_size is 64, which 3 ranks don't divide evenly"),
    ({"devices": 2, "num_nodes": 3}, "batch_size is 64, which 6 ranks don't divide evenly"),
    ({"devices": 4, "accumulate": 32}, "batch_size is 64, which 4 ranks x 32 accumulated parts don't divide evenly"),
    ({"momentum": 1.0}, "momentum is 1.0; it is at least 0 and below 1"),
    ({"momentum": -0.1}, "momentum is -0.1"),
    ({"weight_decay": -0.1}, "weight_decay is -0.1; it is 0 or more"),
    ({"weight_decay": float("inf")}, "weight_decay is inf"),
    ({"init_scale": 0.0}, "init_scale is 0.0; it is above 0"),
    ({"dropout": 1.0}, "dropout is 1.0; it is at least 0 and below 1"),
    ({"milestone_factor": 0.0}, "milestone_factor is 0.0; it is above 0"),
    ({"milestones": (0.5, 1.0)}, "milestones is [0.5, 1.0]; they are fractions of the run, ascending, between 0 and 1"),
    ({"milestones": (0.0,)}, "milestones is [0.0]; they are fractions"),
    ({"milestones": (0.75, 0.5)}, "milestones is [0.75, 0.5]; they are fractions"),
    ({"milestones": (0.5, 0.5)}, "milestones is [0.5, 0.5]; they are fractions"),
    ({"milestones": (float("nan"),)}, "milestones is [nan]; they are fractions"),
]


@pytest.mark.parametrize(("changes", "words"), OUT_OF_RANGE, ids=str)
def test_value_out_of_range(changes, words):
    """A recipe value outside its range is refused by name, made in Python or read from a file."""
    with pytest.raises(ValueError, match="is") as made:
        Recipe(**RECIPE | changes)
    with pytest.raises(msgspec.ValidationError) as read:
        msgspec.convert(RECIPE | changes, Recipe)

    assert words in str(made.value)
    assert words in str(read.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": 0.0},
        {"momentum": 0.999},
        {"weight_decay": 0.0},
        {"threads": 1},
        {"dropout": 0.0},
        {"dropout": 0.999},
        {"milestones": (0.5,)},
        {"milestones": (0.001, 0.999)},
        {"epochs": 0, "steps": 1},
    ],
    ids=str,
)
def test_value_at_the_edge_of_its_range(changes):
    """A recipe value at the edge of its range is taken."""
    recipe = Recipe(**RECIPE | changes)

    assert changes == {name: getattr(recipe, name) for name in changes}


@pytest.mark.parametrize("name", CHOICES)
def test_word_that_is_none_of_those_allowed(name):
    """A value that is one of a few words is refused with these words, whoever gives it."""
    allowed = ", ".join(map(repr, CHOICES[name]))
    words = f"{name} is 'neither'; it is one of {allowed}"

    with pytest.raises(ValueError, match="it is one of") as made:
        Recipe(**RECIPE, **{name: "neither"})
    with pytest.raises(ValueError, match="it is one of") as changed:
        Recipe(**RECIPE).changed(**{name: "neither"})

    assert words == str(made.value)
    assert words == str(changed.value)


@pytest.mark.parametrize(
    ("given", "spelled"),
    [
        ({"rate": 1}, {"rate": 1.0}),
        ({"init_scale": 2}, {"init_scale": 2.0}),
        ({"init_scale": 1}, {}),
        ({"milestones": [0.5, 0.75]}, {}),
        ({"milestones": [0.25]}, {"milestones": (0.25,)}),
        ({"weight_decay": 0, "dropout": 0, "momentum": 0}, {}),
    ],
    ids=str,
)
def test_value_has_one_spelling(given, spelled):
    """A value is stored the same way however it was written, and left out where it is the default."""
    made = Recipe(**RECIPE | given)
    changed = Recipe(**RECIPE).changed(**given)

    expected = msgspec.json.encode({**RECIPE, **spelled}, order="sorted")
    assert expected == msgspec.json.encode(made, order="sorted")
    assert expected == msgspec.json.encode(changed, order="sorted")


@pytest.mark.parametrize(
    ("start", "changes", "expected"),
    [
        ({"epochs": 6}, {"steps": 10}, (0, 10)),
        ({"steps": 10}, {"epochs": 6}, (6, 0)),
        ({"epochs": 6}, {"epochs": 3}, (3, 0)),
        ({"epochs": 6}, {"epochs": 0, "steps": 10}, (0, 10)),
        ({"steps": 10}, {"momentum": 0.9}, (0, 10)),
    ],
    ids=str,
)
def test_epochs_and_steps_replace_one_another(start, changes, expected):
    """A recipe that is given steps counts steps from then on, and no epochs; and the other way round."""
    recipe = Recipe(rate=0.1, batch_size=64, **start).changed(**changes)

    assert expected == (recipe.epochs, recipe.steps)


@pytest.mark.parametrize(("length", "expected"), [({"epochs": 6}, 42), ({"steps": 10}, 10)])
def test_total_steps(length, expected):
    """A training takes its steps, or its epochs times the steps of an epoch."""
    steps = Recipe(rate=0.1, batch_size=64, **length).total_steps(7)

    assert expected == steps


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, (1, 64)), ({"devices": 4}, (4, 16)), ({"devices": 2, "num_nodes": 4, "accumulate": 2}, (8, 4))],
    ids=str,
)
def test_ranks_and_the_batch_of_a_device(changes, expected):
    """The global batch is what a suite states; what a layer sees at once follows."""
    recipe = Recipe(**RECIPE | changes)

    assert expected == (recipe.ranks, recipe.device_batch)


@pytest.mark.parametrize("changes", [{}, {"momentum": 0.9, "weight_decay": 5e-4}, {"threads": 2, "hold_out": False}])
def test_key_is_that_of_a_recipe_before_it_grew(changes):
    """A trial whose recipe uses no newer value keeps the key from before they were there: what is stored is found."""
    old = {"norm": "n", "recipe": {**RECIPE, **changes}, "seed": 3, "task": "toy", "task_version": 1}
    text = json.dumps(old, sort_keys=True, separators=(",", ":"))

    key = Trial(task="toy", task_version=1, norm="n", recipe=Recipe(**RECIPE | changes), seed=3).key

    assert hashlib.sha256(text.encode()).hexdigest()[:16] == key


def test_values_of_the_tests_are_those_of_suites():
    """The tests below try every recipe value that a suite may set."""
    assert set(RECIPE_VALUES) == set(VALUES)


@pytest.mark.parametrize("name", VALUES)
def test_value_can_be_fixed(cells, name):
    """[fix] gives a value to every trial, and the condition says so."""
    values, needs = VALUES[name]

    [cell] = cells(fix={**needs, name: values[0]})

    assert {**needs, name: values[0]} == cell.condition
    assert [values[0]] * 6 == [plain(getattr(trial.recipe, name)) for trial in cell.trials()]


@pytest.mark.parametrize("name", VALUES)
def test_value_can_be_set_for_one_run(cells, name):
    """--set does what [fix] does."""
    values, needs = VALUES[name]
    [cell] = cells(settings={**needs, name: values[0]})

    [fixed] = cells(fix={**needs, name: values[0]})
    assert fixed == cell


@pytest.mark.parametrize("name", VALUES)
def test_value_can_be_varied(cells, name):
    """[vary] makes a condition of each value."""
    values, needs = VALUES[name]

    planned = cells(fix=needs, vary={name: values})

    assert [{**needs, name: value} for value in values] == [cell.condition for cell in planned]


@pytest.mark.parametrize("name", VALUES)
def test_value_can_be_tuned(cells, name):
    """[tune] makes trials of each value, in one cell, whose condition does not name it."""
    values, needs = VALUES[name]

    [cell] = cells(fix=needs, tune={name: values})

    tuned = [plain(getattr(trial.recipe, name)) for trial in cell.trials()]
    assert needs == cell.condition
    assert [value for _seed in range(3) for value in values for _rate in range(2)] == tuned
    assert len(tuned) == len({trial.key for trial in cell.trials()})


def plain(value):
    """Return a value as TOML gives it."""
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"optimizer": "lion"}, "optimizer is 'lion'; it is one of 'sgd', 'adam', 'adamw'"),
        ({"schedule": True}, "schedule is True; it is one of 'constant', 'steps', 'cosine', 'one-cycle'"),
        ({"weight_decay_spares": []}, "weight_decay_spares is []; it is one of 'nothing', 'norms-and-biases'"),
        ({"init": "kaiming"}, "init is 'kaiming'; it is one of 'default', 'he', 'xavier'"),
        ({"precision": 16}, "precision is 16; it is one of 32, 'bf16'"),
        ({"dropout": 1}, "dropout is 1.0; it is at least 0 and below 1"),
        ({"init_scale": 0}, "init_scale is 0.0; it is above 0"),
        ({"steps": 1.5}, "steps: expected int, got float"),
        ({"steps": 0}, "epochs is 0 and steps is 0; one of the two says how long to train"),
        ({"milestones": 0.5}, "milestones: expected array, got float"),
        ({"milestones": []}, "milestones is empty; name one fraction of the run or more"),
        ({"milestones": [2]}, "milestones is [2.0]; they are fractions of the run, ascending, between 0 and 1"),
        ({"channels_last": 1}, "channels_last: expected bool, got int"),
        ({"compile": "yes"}, "compile: expected bool, got str"),
    ],
    ids=str,
)
@pytest.mark.parametrize("under", ["fix", "vary", "tune"])
def test_value_that_a_suite_can_not_give(cells, under, table, words):
    """A value that can't be is refused in one line: the suite, the value, and what is allowed."""
    given = table if under == "fix" else {name: [value] for name, value in table.items()}

    with pytest.raises(UsageError) as refused:
        cells(**{under: given})

    where = "suite mine: [tune]: " if under == "tune" else "suite mine: toy: "
    assert f"{where}{words}" == str(refused.value)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"optimizer": "adam", "momentum": 0.5}, "momentum has no effect where optimizer is adam"),
        ({"milestones": [0.5]}, "milestones has no effect where schedule is constant"),
        ({"schedule": "cosine", "milestone_factor": 0.5}, "milestone_factor has no effect where schedule is cosine"),
        (
            {"weight_decay_spares": "norms-and-biases"},
            "weight_decay_spares has no effect where weight_decay is 0.0",
        ),
        (
            {"strategy": "ddp_find_unused_parameters_true"},
            "strategy has no effect where devices is 1 and num_nodes is 1",
        ),
        ({"sync_ranks": 1}, "sync_ranks has no effect where devices is 1 and num_nodes is 1"),
    ],
    ids=str,
)
@pytest.mark.parametrize("under", ["fix", "vary", "tune"])
def test_value_without_an_effect(cells, under, table, words):
    """A value that changes no training of the suite is refused, and what it would need is named."""
    given = table if under == "fix" else {name: [value] for name, value in table.items()}

    with pytest.raises(UsageError) as refused:
        cells(**{under: given})

    assert f"suite mine: {words}" == str(refused.value)


def test_value_that_wants_a_validation_split(cells):
    """The published protocol has none."""
    with pytest.raises(UsageError, match="suite mine: validate_every has no effect where hold_out is False"):
        cells(protocol="published", rates=[], fix={"validate_every": 5})


@pytest.mark.parametrize(
    "tables",
    [
        {"fix": {"momentum": 0.5}, "vary": {"optimizer": ["sgd", "adam"]}},
        {"fix": {"momentum": 0.5}, "tune": {"optimizer": ["adamw", "sgd"]}},
        {"fix": {"weight_decay_spares": "norms-and-biases"}, "tune": {"weight_decay": [0, 5e-4]}},
        {"vary": {"milestones": [[0.5], [0.9]]}, "fix": {"schedule": "steps"}},
        {"vary": {"devices": [1, 2]}, "fix": {"sync_ranks": 1}},
        {"vary": {"strategy": ["ddp"]}, "fix": {"num_nodes": 2}},
    ],
    ids=str,
)
def test_value_with_an_effect_on_some_trials(cells, tables):
    """A value that matters to some of a suite's trials is taken."""
    planned = cells(**tables)

    assert planned
