"""Training on two gloo processes: against one process, and against replicas written out."""

import copy

import msgspec
import pytest
import torch
from torch import nn

import normbench
from normbench import plugins
from normbench.registry import Offered, Plugin, Registry
from normbench.train import fit_pack
from normbench.train.assemble import network, place_of
from normbench.train.data import Batches, InMemory
from normbench.train.ranks.place import ALONE, Ranks, joined
from normbench.trials import Trial

SPLIT = InMemory(torch.arange(26.0).view(26, 1), torch.arange(26))


def taken(**options):
    """Return the samples of two epochs, a list a part of a step."""
    batches = Batches(SPLIT, 12, seed=0, draws=1, **options)
    epochs = [list(batches), list(batches)]
    assert [len(batches)] * 2 == [len(epoch) for epoch in epochs]
    return [[indices.tolist() for step in epoch for indices, _ in step] for epoch in epochs]


def test_the_parts_of_a_step_are_the_samples_of_the_step():
    """Accumulated parts follow one another in the order of one process, and in each the ranks do."""
    whole = taken()

    parts = [taken(accumulate=2, ranks=Ranks(rank, 3)) for rank in range(3)]

    for epoch in (0, 1):
        for step in (0, 1):
            cut = [parts[rank][epoch][2 * step + part] for part in (0, 1) for rank in range(3)]
            assert [2] * 6 == [len(samples) for samples in cut]
            assert whole[epoch][step] == [sample for samples in cut for sample in samples]


def test_draws_belong_to_the_sample_on_any_number_of_ranks():
    """Augmentation of a sample in an epoch is the same on whichever rank it is."""

    def draws_of(**options):
        batches = Batches(SPLIT, 12, seed=0, draws=2, **options)
        parts = [part for step in batches for part in step]
        return {t: d for chosen, draws in parts for t, d in zip(chosen.tolist(), draws.tolist(), strict=True)}

    found = {**draws_of(ranks=Ranks(0, 2), accumulate=3), **draws_of(ranks=Ranks(1, 2), accumulate=3)}

    assert draws_of() == found


def test_one_rank_needs_no_other():
    """Alone, every sum and mean is what it was, and nothing is drawn by rank."""
    values = torch.tensor([1.0, float("nan")])

    assert values is ALONE.sum(values)
    assert values is ALONE.mean(values)
    assert {"a"} == ALONE.union(["a"])
    assert ((), None, 1) == (ALONE.folded, ALONE.group(0), ALONE.sharing(0))
    assert ALONE is joined(1)


def test_ranks_outside_of_their_group():
    """A training of several ranks in a process of none is refused: it would train on a part of the data."""
    with pytest.raises(RuntimeError, match="a trial on 2 ranks in a process group of 1"):
        joined(2)


@pytest.mark.parametrize(
    ("norm", "devices", "sync_ranks", "expected"),
    [
        ("before", 8, 0, "unsupported"),
        ("before", 4, 0, "built"),
        ("synchronized", 8, 0, "built"),
        ("synchronized", 8, 1, "unsupported"),
        ("synchronized", 8, 2, "built"),
    ],
)
def test_batch_of_one_counts_who_shares_statistics(monkeypatch, norm, devices, sync_ranks, expected):
    """A norm that can't train at batch size 1 sees its device's batch, or those of all ranks it synchronizes with."""
    monkeypatch.setattr(Ranks, "group", lambda self, sync_ranks: None)
    norms = {
        "before": normbench.Traits(batch_dependent=True, rank_dependent=True, batch_size_1="no"),
        "synchronized": normbench.Traits(batch_dependent=True, batch_size_1="no"),
    }
    made = normbench.Norm(norm, lambda site: nn.Identity(), summary="x", traits=norms[norm])
    recipe = normbench.Recipe(rate=0.1, batch_size=8, epochs=1, devices=devices, sync_ranks=sync_ranks)
    one = Trial(task="t", task_version=1, norm=norm, recipe=recipe, seed=0)
    task = normbench.Task("t", 1, summary="x", recipe=recipe, chance=0.5, reference=1.0, data=len, network=len)
    plugin = Plugin("t", "t")
    registry = Registry(norms={norm: Offered(made, plugin)}, tasks={"t": Offered(task, plugin)})
    place = place_of(one, registry, Ranks(0, devices))

    try:
        place.norm(3, "NC")
        found = "built"
    except normbench.Unsupported:
        found = "unsupported"

    assert expected == found


def same(one, other):
    return one.keys() == other.keys() and all(one[name] == pytest.approx(other[name], abs=1e-10) for name in one)


@pytest.mark.parametrize(
    ("norm", "recipe"),
    [
        ("plain", {}),
        ("layer-norm", {"schedule": "cosine"}),
        ("layer-norm", {"epochs": 0, "steps": 6}),
        ("layer-norm", {"batch_size": 8, "strategy": "ddp_find_unused_parameters_true"}),
        ("unused", {"strategy": "ddp_find_unused_parameters_true"}),
        ("sync-batchnorm", {}),
        ("sync-batchnorm", {"accumulate": 2, "validate_every": 3}),
        ("layer-norm", {"accumulate": 3}),
        ("penalized", {"accumulate": 2}),
    ],
    ids=str,
)
def test_two_processes_train_as_one_does(norm, recipe, trained, numbers):
    """Without statistics of the batch, or with synchronized ones, weights, losses and scores agree to rounding."""
    one = trained(norm, **recipe)

    two = trained(norm, devices=2, **recipe)

    assert (one.outcome, one.steps, one.epoch_steps) == (two.outcome, two.steps, two.epoch_steps)
    assert one.validated == two.validated
    assert same(numbers(one), numbers(two))
    [alone], [together] = ([trace.series["loss"] for trace in outcome.traces] for outcome in (one, two))
    assert alone.step == together.step
    assert alone.value == pytest.approx(together.value, rel=2e-7)


@pytest.mark.parametrize("devices", [1, 2])
def test_accumulated_parts_train_as_the_whole(devices, trained, numbers):
    """Without statistics of the batch, a step in three parts gives the weights of a step in one."""
    whole = trained("layer-norm", devices=devices)

    parts = trained("layer-norm", devices=devices, accumulate=3)

    assert (8, 4) == (parts.steps, parts.epoch_steps)
    assert same(numbers(whole), numbers(parts))


def test_plain_batch_norm_differs_as_it_must(trained, numbers):
    """Each process normalizes by its own half of the batch."""
    one, two = trained("batchnorm"), trained("batchnorm", devices=2)

    assert not same(numbers(one), numbers(two))


def replicas_of(one, plugin):
    """Train replicas written out, a rank each, with its part of every batch; return their weights and their buffers."""
    registry, ranks = plugins.current((plugin,)), one.recipe.ranks
    splits = registry.task("double").data(None, one.recipe)
    first = network(one, registry)
    models = [first, *(copy.deepcopy(first) for _ in range(1, ranks))]
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9) for model in models]
    cut = [Batches(InMemory(*splits.train), 12, one.seed, ranks=Ranks(rank, ranks)) for rank in range(ranks)]
    for _ in range(2):
        for parts in zip(*cut, strict=True):
            for model, [(indices, _)] in zip(models, parts, strict=True):
                model.zero_grad()
                inputs, targets = splits.train[0][indices], splits.train[1][indices]
                nn.functional.cross_entropy(model(inputs), targets).backward()
            for alike in zip(*(model.parameters() for model in models), strict=True):
                mean = torch.stack([parameter.grad for parameter in alike]).mean(0)
                for parameter in alike:
                    parameter.grad = mean.clone()
            for optimizer in optimizers:
                optimizer.step()
    return [dict(model.named_parameters()) for model in models], [dict(model.named_buffers()) for model in models]


@pytest.mark.parametrize("norm", ["batchnorm", "online-norm"])
def test_each_rank_keeps_its_own_state(norm, trained, trial, plugin):
    """Weights are those of replicas whose gradients are averaged; buffers are each replica's own, and differ."""
    weights, buffers = replicas_of(trial(norm, devices=2), plugin)

    found = trained(norm, devices=2)

    last = {name: series[-1] for name, series in found.series.items()}
    for name, values in weights[0].items():
        assert values.flatten().tolist() == pytest.approx([last[f"{name}[{i}]"] for i in range(values.numel())])
    for rank, own in enumerate(buffers):
        for name, values in own.items():
            told = [last[f"{rank}:{name}[{i}]"] for i in range(values.numel())]
            assert values.double().flatten().tolist() == pytest.approx(told, rel=1e-6, abs=1e-10)
    assert not torch.equal(buffers[0]["0.1.0.running_mean"], buffers[1]["0.1.0.running_mean"])


def test_synchronized_statistics_are_the_same_on_every_rank(trained, numbers):
    """Running averages of sync-batchnorm are those of one process, on both ranks."""
    one, two = trained("sync-batchnorm"), trained("sync-batchnorm", devices=2)

    alone = numbers(one, rank=0)
    for rank in (0, 1):
        assert same(alone, {name.replace(f"{rank}:", "0:"): value for name, value in numbers(two, rank).items()})


def test_ranks_that_share_with_no_other(trained, numbers):
    """With sync_ranks = 1 sync-batchnorm is batchnorm."""
    plain = trained("batchnorm", devices=2)

    alone = trained("sync-batchnorm", devices=2, sync_ranks=1)

    assert numbers(plain) == numbers(alone)


def test_each_rank_draws_its_own_numbers_and_repeats_them(trained, numbers):
    """What a layer draws differs between ranks, and is the same in the next run."""
    once, again = trained("own-noise", devices=2), trained("own-noise", devices=2)

    drawn = [once.series[f"{rank}:0.1.0.drawn[0]"] for rank in (0, 1)]
    assert once.series == again.series
    assert set(drawn[0]).isdisjoint(drawn[1])


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_layer_is_told_each_step_and_evaluation_once(accumulate, trained):
    """On every rank, whatever the passes: on_step before a step, after_step behind it, and evaluations by epoch."""
    found = trained("counting", devices=2, accumulate=accumulate)

    for rank in (0, 1):
        told = [found.series[f"{rank}:0.1.0.told[{i}]"][-1] for i in range(8)]
        taken = [found.series[f"{rank}:0.1.0.taken[{i}]"][-1] for i in range(8)]
        assert [1.0] * 8 == told == taken
        assert [1.0, 2.0] == found.series[f"{rank}:0.1.0.evaluations[0]"]
        assert 8.0 * accumulate == found.series[f"{rank}:0.1.0.forwards[0]"][-1]


def test_a_loss_that_is_not_finite_on_one_rank_ends_the_trial_on_both(trained):
    """The divergence is that of the step on which one rank's loss was not finite."""
    found = trained("nan-on-one", devices=2, epochs=5)

    assert ("diverged", 3, 4, 0.7) == (found.outcome, found.diverged_at, found.steps, found.score)


def test_a_buffer_that_is_not_finite_on_one_rank_is_a_divergence(trained):
    """Each rank looks at its own buffers, and all hear of it."""
    found = trained("poisoned-on-one", devices=2)

    assert ("diverged", "0.1.0.state is not finite") == (found.outcome, found.reason)


def test_a_dry_run_steps_on_every_rank(pack, trial):
    """A layer that needs its group is tried on it, and gives nothing."""
    assert [] == list(fit_pack(pack(trial("sync-batchnorm", devices=2), dry=True)))


def test_what_is_registered_in_a_session_reaches_the_ranks(trained, numbers):
    """A norm of a notebook trains on ranks, which are other processes, as well."""
    normbench.register(normbench.Norm("of-a-session", lambda site: nn.Identity(), summary="S"))
    try:
        found = trained("of-a-session", devices=2)
    finally:
        plugins._session.clear()
        plugins.current.cache_clear()

    assert numbers(trained("plain", devices=2)) == numbers(found)


def test_ranks_that_share_statistics_with_some(trained, numbers):
    """Four ranks that share statistics in pairs train as two do, each with batch norm over its pair's samples."""
    two = trained("batchnorm", devices=2)

    four = trained("sync-batchnorm", devices=4, sync_ranks=2)

    # Which statistics a sample is evaluated with depends on its rank.
    one, other = ({**numbers(outcome), "score": 0, "validation": [0]} for outcome in (two, four))
    assert same(one, other)
    for rank in range(4):
        pair = {name.replace(f"{rank}:", f"{rank // 2}:"): series for name, series in numbers(four, rank).items()}
        assert same(numbers(two, rank // 2), pair)


@pytest.mark.parametrize("norm", ["batchnorm", "sync-batchnorm"])
def test_probes_by_step_change_nothing_on_several_ranks(trial, pack, numbers, norm):
    """Gradients of a probe's own are not exchanged; rank 0's trace is kept, of its part of each batch."""
    plain, looking = (pack(trial(norm, devices=2)) for _ in range(2))
    looking = msgspec.structs.replace(looking, probes=("choosy", "looking", *plain.probes))

    [alone], [watched] = fit_pack(plain), fit_pack(looking)

    assert numbers(alone) == numbers(watched)
    refused, trace, _ = watched.traces
    assert ("unsupported", "not on ranks") == (refused.ended, refused.reason)
    assert watched.steps == len(trace.series["looked"].step)
    assert {6.0} == {size for _, _, size in trace.series["looked"].value}
