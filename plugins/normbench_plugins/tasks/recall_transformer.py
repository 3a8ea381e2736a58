"""Associative recall, made on the fly: pairs of key and value, then keys whose values are asked.

It is the multi-query associative recall of Arora et al. (2023, arXiv 2312.04927, section 3 and appendix E), with the
queries directly after the pairs, each key once in an order of its own, and values that may be equal.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import normbench

if TYPE_CHECKING:
    from torch import Tensor, nn

TRAIN, VALIDATION, TEST = 16_384, 1_024, 1_024
#: Tokens below KEYS are keys, the VALUES after them are values.
KEYS, VALUES, PAIRS = 16, 16, 8
LENGTH = 3 * PAIRS
#: The target of a position that asks nothing: what torch's cross-entropy leaves out.
NOT_ASKED = -100


def data(folder: Path, recipe: normbench.Recipe) -> normbench.Splits:  # noqa: ARG001 - a task's data takes both
    """Return sequences of tokens, (N, LENGTH), with the number of the value asked for at each position."""
    import numpy as np
    import torch

    samples = TRAIN + VALIDATION + TEST
    # The legacy generator's stream is frozen by NumPy's policy, so that the sequences are the same everywhere.
    draws = np.random.RandomState(0)
    keys = draws.rand(samples, KEYS).argsort(axis=1)[:, :PAIRS]
    values = draws.randint(VALUES, size=(samples, PAIRS))
    order = draws.rand(samples, PAIRS).argsort(axis=1)
    pairs = np.stack([keys, KEYS + values], axis=2).reshape(samples, 2 * PAIRS)
    queries, answers = (np.take_along_axis(part, order, axis=1) for part in (keys, values))
    inputs = torch.from_numpy(np.concatenate([pairs, queries], axis=1))
    targets = torch.from_numpy(np.concatenate([np.full_like(pairs, NOT_ASKED), answers], axis=1))
    ends = accumulate((TRAIN, VALIDATION, TEST), initial=0)
    train, validation, test = ((inputs[i:j], targets[i:j]) for i, j in pairwise(ends))
    return normbench.Splits(train, validation, test)


def example(recipe: normbench.Recipe) -> Tensor:  # noqa: ARG001 - as all of a task's functions
    """Return sequences of random tokens."""
    import torch

    return torch.randint(KEYS + VALUES, (4, LENGTH), generator=torch.Generator().manual_seed(0))


def network(place: normbench.Place, recipe: normbench.Recipe, block: str) -> nn.Module:  # noqa: ARG001
    """Return a causal transformer of two blocks: the fewest that can look a key's value up one position later."""
    from normbench_plugins.sequences.transformer import Transformer

    return Transformer(
        place, tokens=KEYS + VALUES, length=LENGTH, width=64, blocks=2, classes=VALUES, pre=block == "pre"
    )


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy over the queries; (N, LENGTH, VALUES), (N, LENGTH) -> ()."""
    from torch.nn import functional

    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=NOT_ASKED)


def score(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the share of a sequence's queries that are answered right; (N, LENGTH, VALUES), (N, LENGTH) -> (N,)."""
    right = outputs.argmax(dim=2) == targets  # which NOT_ASKED is nowhere
    return right.sum(dim=1) / (targets != NOT_ASKED).sum(dim=1)


TASKS = [
    normbench.Task(
        "recall-transformer",
        1,
        summary="Associative recall of 8 pairs, made on the fly, causal transformer of two blocks; ten seconds a trial",
        recipe=normbench.Recipe(
            rate=3e-3,
            batch_size=64,
            steps=500,
            optimizer="adamw",
            weight_decay=0.1,
            weight_decay_spares="norms-and-biases",
            schedule="cosine",
        ),
        chance=1 / VALUES,
        reference=0.99,
        data="normbench_plugins.tasks.recall_transformer:data",
        network="normbench_plugins.tasks.recall_transformer:network",
        example="normbench_plugins.tasks.recall_transformer:example",
        loss="normbench_plugins.tasks.recall_transformer:loss",
        score="normbench_plugins.tasks.recall_transformer:score",
        params={"block": "pre"},
        types={"block": Literal["pre", "post"]},
        causal=True,
    )
]
