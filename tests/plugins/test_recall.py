"""The task recall-transformer: what is asked has one answer, and a network that can't look ahead gives it."""

from pathlib import Path

import pytest
import torch

from normbench import plugins
from normbench.contract import Unsupported
from normbench.train.assemble import network
from normbench.train.data import load
from normbench.trials import Trial
from normbench_plugins.tasks.recall_transformer import KEYS, NOT_ASKED, PAIRS, VALUES, loss, score


@pytest.fixture(scope="module")
def registry():
    return plugins.load()


@pytest.fixture(scope="module")
def splits(registry):
    task = registry.task("recall-transformer")
    loaded = load(task, {}, task.recipe, Path(), torch.device("cpu"))
    return loaded.train, loaded.validation, loaded.test


def recall(registry, norm, **params):
    task = registry.task("recall-transformer")
    return Trial(task=task.name, task_version=1, task_params=params, norm=norm, recipe=task.recipe, seed=0)


def answers(sequence):
    """Read a sequence token by token: a value belongs to the key before it, and a key that has one asks for it."""
    known, found, key = {}, [], None
    for position, token in enumerate(sequence):
        if token >= KEYS:
            known[key] = token - KEYS
        elif token in known:
            found.append((position, known[token]))
        key = token
    return found


def test_what_is_asked_has_one_answer(splits):
    """A reader of the sequence finds the targets, of all pairs, and nothing else is asked."""
    for split in splits:
        for sequence, targets in zip(split.inputs[:50].tolist(), split.targets[:50].tolist(), strict=True):
            asked = [(position, target) for position, target in enumerate(targets) if target != NOT_ASKED]
            assert asked == answers(sequence)
            assert PAIRS == len(asked)


def test_the_splits_are_fixed_and_have_no_sequence_in_common(splits):
    """16,384 sequences to train on, 1,024 to validate, 1,024 to test; each once."""
    sequences = torch.cat([split.inputs for split in splits])

    assert [16_384, 1_024, 1_024] == [len(split.targets) for split in splits]
    assert [7, 18, 12, 23, 1, 27] == splits[2].inputs[0, :6].tolist()
    assert len(sequences.unique(dim=0)) == len(sequences)


def test_score_and_loss_count_queries_alone(splits):
    """Right answers score 1, half of them 0.5; outputs that are all alike have the loss of guessing."""
    targets = splits[2].targets
    right = torch.nn.functional.one_hot(targets.clamp(min=0), VALUES).float()
    half = right.clone()
    half[:, -PAIRS // 2 :] = right[:, -PAIRS // 2 :].roll(1, dims=2)

    assert [1.0, 0.5] == [score(outputs, targets).unique().item() for outputs in (right, half)]
    assert loss(torch.zeros_like(right), targets).item() == pytest.approx(torch.tensor(VALUES).log().item())


@pytest.mark.parametrize(
    ("block", "norm", "expected"),
    [("pre", "none", 0), ("pre", "layer-norm", 5), ("post", "none", 0), ("post", "layer-norm", 4)],
)
def test_the_norms_stand_in_both_branches_of_two_blocks_and_before_the_head_where_pre(registry, block, norm, expected):
    """Gamma and beta of 64 channels for each, and all else the same."""
    linears = 2 * (4 * 64 * 65 + (64 + 1) * 128 + (128 + 1) * 64) + 65 * 16
    embeddings = (32 + 24) * 64

    built = network(recall(registry, norm, block=block), registry)

    assert linears + embeddings + 2 * 64 * expected == sum(weight.numel() for weight in built.parameters())


@pytest.mark.parametrize("block", ["pre", "post"])
def test_no_output_depends_on_a_later_token(registry, splits, block):
    """A change of the last token moves the last output alone."""
    built, tokens = network(recall(registry, "layer-norm", block=block), registry), splits[0].inputs[:4]
    changed = tokens.clone()
    changed[:, -1] = (tokens[:, -1] + 1) % KEYS

    moved = (built(changed) - built(tokens)).abs().amax(dim=(0, 2))

    assert moved[:-1].max() < 1e-5 < moved[-1]


@pytest.mark.parametrize("block", ["pre", "post"])
def test_a_norm_of_the_batch_is_unsupported(registry, block):
    """It would see the tokens that are to come."""
    with pytest.raises(Unsupported, match=r"^batchnorm mixes positions: [^\n]*, and the task is causal$"):
        network(recall(registry, "batchnorm", block=block), registry)
