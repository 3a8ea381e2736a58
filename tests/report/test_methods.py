"""The paragraph for a paper, and the commands that made what is shown: all of it from the records."""

import pytest

from normbench.boards.grid import gather
from normbench.report.methods import made, paragraphs
from normbench.store.records import SCHEMA, EnvironmentRecord


@pytest.fixture
def said(folder):
    """Return a function that says what a paper would of the folder."""
    return lambda *ran_on: list(paragraphs(gather(folder.store), folder.store.sessions(), ran_on))


def test_a_grid_is_told(folder, said):
    """Norms, task, recipe, rates, seeds and fresh ones, how the rate was chosen, and what ± is."""
    fresh = {"none": {1.0: [0.8, 0.8]}, "batchnorm": {1.0: [0.9, 0.9]}}
    folder.add({norm: {0.1: [0.6] * 3, 1.0: [0.9] * 3} for norm in fresh}, fresh=fresh)

    [paragraph] = said()

    assert "We compared 2 normalization layers (none, batchnorm) on spirals (version 1)." in paragraph
    assert "trained for 3 epochs in batches of 8 by SGD, with a constant learning rate." in paragraph
    assert "at learning rates 0.1, 1, with 3 seeds each" in paragraph
    assert "of 2 fresh seeds that took no part in this choice" in paragraph
    assert "half way between chance (10%) and 90% on" in paragraph


def test_flattering_seeds_are_named(folder, said):
    """Where there are no fresh ones, the paragraph says so."""
    folder.add({"none": {0.1: [0.6], 1.0: [0.9]}})

    assert "of the same seeds, which flatters it" in said()[0]


def test_a_published_recipe_has_no_grid(folder, said):
    """No rate was chosen, and nothing held out."""
    folder.add({"none": {0.1: [0.9, 0.9]}}, protocol="published")

    [paragraph] = said()

    assert "The learning rate is the recipe's own, and no data were held out; accuracy is on test" in paragraph
    assert "Each layer was trained" not in paragraph


def test_of_one_there_is_no_choice(folder, said):
    """One norm is compared with nothing, and one rate was not chosen."""
    folder.add({"none": {0.1: [0.9, 0.9]}})

    [paragraph] = said()

    assert "We trained networks with the normalization layer none on spirals" in paragraph
    assert "at learning rate 0.1, with 2 seeds; the accuracy that is reported is on test" in paragraph


@pytest.mark.parametrize(("task", "words"), [("mnist-cnn", "The task: MNIST, three convolutions"), ("mine", "")])
def test_a_task_is_described(folder, said, task, words):
    """By the first sentence of what the registry says: what follows is on parameters."""
    folder.add({"none": {0.1: [0.9]}}, task=task)

    [paragraph] = said()

    assert words in paragraph
    assert ("The task:" in paragraph, "samples" in paragraph) == (bool(words), False)


def test_conditions_share_a_paragraph(folder, said):
    """It names each; what they differ in is not said of all."""
    for size in (2, 32):
        folder.add({"none": {0.1: [0.9]}}, condition={"momentum": size / 100})

    [paragraph] = said()

    assert "Conditions: momentum=0.02; momentum=0.32." in paragraph


def test_speed_and_machines_come_last(folder, said):
    """How speed was measured, and each environment."""
    folder.add({"none": {0.1: [0.9]}, "batchnorm": {0.1: [0.9]}})
    folder.time("spirals", none=1.1)
    chip = EnvironmentRecord(
        schema=SCHEMA, environment="1", processor="A chip", cores=2, python="3.12", packages={"torch": "2.9"}
    )
    card = EnvironmentRecord(schema=SCHEMA, environment="2", accelerator="A card", cores=2)

    *_, last = said(chip, card)

    assert last.startswith("Training speed was timed in blocks of 20 steps (batches of 8)")
    assert "Measured on A chip, 2 cores, with Python 3.12, torch 2.9." in last
    assert "Measured on A card, with Python unknown." in last


def test_commands_have_what_they_gave(folder):
    """A session counts for the latest run of its command; trials of other runs are counted, too."""
    folder.add({"none": {0.1: [0.9, 0.8]}}, command=["normbench", "run", "a"], started="2024-01-01T00:00:00+00:00")
    folder.add({"batchnorm": {0.1: [0.9]}}, command=["normbench"], started="2023-12-31T00:00:00+00:00")
    folder.time("spirals")
    [first, second] = folder.store.runs()
    trials = list(folder.store.trials())

    both = made([first, second], folder.store.sessions(), trials)
    alone = made([first], [], trials)

    assert [("normbench", "1 trial and 1 throughput session"), ("normbench run a", "2 trials")] == [
        (one.command, one.gave) for one in both
    ]
    assert ["1 trial", "2 trials"] == [one.gave for one in alone]
